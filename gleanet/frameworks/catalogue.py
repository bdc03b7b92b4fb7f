"""Which frameworks there are, and what each needs: one row a framework, of today and of the time of the paper (2017).

Adding a framework is one row here and one adapter file (see ``adapters/harness.py`` for what an adapter offers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gleanet.core.errors import SettingsError

ADAPTERS = Path(__file__).parent / "adapters"
MODERN = ("3.11", "3.12", "3.13")
OLD_PIP = ("--upgrade", "pip<22")  # Python 3.6 comes with a pip that picks packages for newer Pythons


@dataclass(frozen=True)
class Need:
    """Something of the operating system: a program on PATH, or a shared library by its file name, and the Debian package that brings it."""

    what: str
    package: str


@dataclass(frozen=True)
class Framework:
    """One row.

    Attributes:
        name: what the user types.
        title: what is printed.
        package: the distribution whose version is the framework's.
        pythons: versions of Python it runs on, the best first.
        install: arguments of each ``pip install``, in order, pinned.
        adapter: file in ``adapters``.
        modes: ways to run the same network in it; each is a row of the comparison.
        trains: False for runtimes that only infer.
        needs: what must be on the system; looked for before anything is installed.
        links: file in site-packages -> shared library of the system that it must point to.
        variables: environment variables; ``{cache}`` is a folder for compiled code, ``{blas}`` how to link OpenBLAS, empty without it,
            ``{dtype}`` float32 or float64.
        shares: framework in whose environment it is installed too.
        here: the interpreter that runs gleanet is used where it has the package.
        devices: what the pinned packages can compute on.
    """

    name: str
    title: str
    package: str
    pythons: tuple[str, ...]
    install: tuple[tuple[str, ...], ...]
    adapter: str
    modes: tuple[str, ...] = ("default",)
    trains: bool = True
    needs: tuple[Need, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    shares: str = ""
    here: bool = False
    devices: tuple[str, ...] = ("cpu",)

    @property
    def environment(self) -> str:
        """Name of the folder of its environment."""
        return self.shares or self.name

    @property
    def script(self) -> Path:
        """The adapter's file."""
        return ADAPTERS / self.adapter


_COMPILER = Need("g++", "g++")
_MPI = (Need("libmpi.so.40", "libopenmpi3"), Need("libgomp.so.1", "libgomp1"))
_THEANO = {"THEANO_FLAGS": "floatX={dtype},device=cpu,openmp=False,blas.ldflags={blas},base_compiledir={cache}/theano"}
_PYTENSOR = {"PYTENSOR_FLAGS": "floatX={dtype},linker=cvm,blas__ldflags={blas},base_compiledir={cache}/pytensor"}
_TENSORFLOW = (("tensorflow==2.21.0", "keras==3.15.1"),)
_JAX = (("jax==0.10.2", "flax==0.12.8", "optax==0.2.8"),)

FRAMEWORKS: tuple[Framework, ...] = (
    Framework(
        "theano-0.9",
        "Theano 0.9",
        "Theano",
        ("3.6",),
        (OLD_PIP, ("theano==0.9.0", "numpy<1.17", "scipy<1.3")),
        "theano_cnn.py",
        needs=(_COMPILER,),
        variables=_THEANO,
    ),
    Framework(
        "theano",
        "Theano 1.0",
        "Theano",
        ("3.8", "3.7", "3.6"),
        (("Theano==1.0.5", "numpy<1.20", "scipy<1.11"),),
        "theano_cnn.py",
        needs=(_COMPILER,),
        variables=_THEANO,
    ),
    Framework(
        "cntk",
        "CNTK 2.7",
        "cntk",
        ("3.6",),
        (OLD_PIP, ("cntk==2.7.post2", "numpy<1.20")),
        "cntk_cnn.py",
        needs=_MPI,
        links={"cntk/libs/libmpi.so.12": "libmpi.so.40", "cntk/libs/libmpi_cxx.so.1": "libmpi_cxx.so.40"},
    ),
    Framework(
        "tensorflow-1.2",
        "TensorFlow 1.2",
        "tensorflow",
        ("3.6",),
        (OLD_PIP, ("tensorflow==1.2.1", "numpy<1.17", "protobuf<3.20")),
        "tensorflow_graph_cnn.py",
        modes=("graph", "layers"),
    ),
    Framework(
        "tensorflow-1.15",
        "TensorFlow 1.15",
        "tensorflow",
        ("3.7", "3.6"),
        (("tensorflow==1.15.5", "protobuf<3.20"),),
        "tensorflow_graph_cnn.py",
        modes=("graph",),
    ),
    Framework(
        "tensorflow-graph",
        "TensorFlow 2, graph",
        "tensorflow",
        MODERN,
        _TENSORFLOW,
        "tensorflow_graph_cnn.py",
        ("graph",),
        shares="tensorflow",
    ),
    Framework("tensorflow", "TensorFlow 2", "tensorflow", MODERN, _TENSORFLOW, "tensorflow_cnn.py", modes=("function",)),
    Framework(
        "keras", "Keras 3", "keras", MODERN, _TENSORFLOW, "keras_cnn.py", shares="tensorflow", variables={"KERAS_BACKEND": "tensorflow"}
    ),
    Framework(
        "pytorch",
        "PyTorch",
        "torch",
        MODERN,
        (("torch==2.13.0", "numpy"),),
        "pytorch_cnn.py",
        modes=("eager", "compiled"),
        needs=(_COMPILER,),
        here=True,
        devices=("cpu", "cuda"),
    ),
    Framework("jax", "JAX", "jax", MODERN, _JAX, "jax_cnn.py"),
    Framework("flax", "Flax", "flax", MODERN, _JAX, "flax_cnn.py", shares="jax"),
    Framework(
        "pytensor",
        "PyTensor",
        "pytensor",
        MODERN,
        (("pytensor==3.0.7",),),
        "pytensor_cnn.py",
        needs=(_COMPILER,),
        variables=_PYTENSOR,
    ),
    Framework("mxnet", "MXNet", "mxnet", ("3.8", "3.7", "3.6"), (("mxnet==1.9.1", "numpy<1.24"),), "mxnet_cnn.py"),
    Framework("paddle", "PaddlePaddle", "paddlepaddle", MODERN, (("paddlepaddle==3.3.1",),), "paddle_cnn.py"),
    Framework(
        "tinygrad",
        "tinygrad",
        "tinygrad",
        MODERN,
        (("tinygrad==0.14.0", "numpy"),),
        "tinygrad_cnn.py",
        needs=(Need("clang", "clang"),),
        variables={"DEV": "CPU", "CACHEDB": "{cache}/tinygrad.db"},
    ),
    Framework(
        "onnxruntime", "ONNX Runtime", "onnxruntime", MODERN, (("onnxruntime==1.32.0",),), "onnxruntime_cnn.py", trains=False, here=True
    ),
    Framework("openvino", "OpenVINO", "openvino", MODERN, (("openvino==2026.4.1",),), "openvino_cnn.py", trains=False, here=True),
)

_ALIASES = {
    "theano-1.0": "theano",
    "torch": "pytorch",
    "paddlepaddle": "paddle",
    "tensorflow-2": "tensorflow",
    "tensorflow-function": "tensorflow",
}


def find(name: str, known: Sequence[Framework] = FRAMEWORKS) -> Framework:
    """The framework of that name.

    Raises:
        SettingsError: no such framework; the names are listed.
    """
    wanted = _ALIASES.get(name.lower(), name.lower())
    found = next((row for row in known if row.name == wanted), None)
    if found is None:
        raise SettingsError(f"no framework {name!r}: known are {', '.join(row.name for row in known)}")
    return found


def rows(names: Sequence[str], known: Sequence[Framework] = FRAMEWORKS) -> tuple[tuple[Framework, str], ...]:
    """The (framework, mode) pairs of these names, each once: all modes for ``pytorch``, one for ``pytorch:eager``; without names all.

    Raises:
        SettingsError: no such framework or mode.
    """
    found: dict[tuple[str, str], tuple[Framework, str]] = {}
    for name in names or [row.name for row in known]:
        plain, _, mode = name.partition(":")
        framework = find(plain, known)
        if mode and mode not in framework.modes:
            raise SettingsError(f"{framework.title} has no mode {mode!r}: it has {', '.join(framework.modes)}")
        found |= {(framework.name, each): (framework, each) for each in framework.modes if mode in ("", each)}
    return tuple(found.values())
