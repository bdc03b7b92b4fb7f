"""ONNX files in OpenVINO, on the CPU: the same kind of session that ONNX Runtime gives, in float32 and in 8 bits.

OpenVINO reads the ONNX file itself; QDQ pairs become integer layers when it compiles. What it would choose by itself and we do not let it:
bfloat16 or float16 where the CPU has them (a float file is computed in float32, as in ONNX Runtime; integer layers stay integer), several
streams, as many threads as there are cores, threads pinned to cores that another candidate is pinned to as well, and a report to Google
Analytics whenever it is imported.
"""

import sys
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import ModelError
from gleanet.measure.runtime import read_model
from gleanet.measure.session import Session, StrPath, one_line

# It raises nothing else: its own exceptions are translated to these.
_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)
_TYPES = (np.float32, np.uint8, np.float16, np.float64)
_NOISE = ("Exception from ", "Check '", "FrontEnd API failed", "While validating ", "Summary:")  # where in its source, not what
_NO_LAYERS = ("Const", "Input", "Output")
_REPORTER = "openvino_telemetry"


def _silent() -> Any:
    """The package ``openvino``, imported as if the package that reports its use were not installed: it then does without.

    The report would go out unasked, from a process of its own that runs while we time.
    """
    kept = {name: module for name, module in sys.modules.items() if name == _REPORTER}
    sys.modules[_REPORTER] = None  # type: ignore[assignment]  # Python's word for: not to be found
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_REPORTER]
        sys.modules.update(kept)


_openvino = _silent()


def runtime_name() -> str:
    """The runtime and its version, as it stands in records: ``openvino 2026.4.1``."""
    return f"openvino {_version()}"


def open_checked(file: Path, *, threads: int = 1) -> Session:
    """Open ``file``, which :func:`gleanet.measure.runtime.read_model` has checked already, with ``threads`` threads per call.

    Sizes that the file leaves open are fixed when the first images of a size come, and a graph is compiled for each: OpenVINO runs fixed
    shapes faster, and it is how one deploys it. So the first call with a batch size takes long.

    Raises:
        ModelError: refused by OpenVINO, more than one input, or an input type that is not float or uint8.
    """
    model = _read(file)
    if len(model.inputs) != 1:
        names = ", ".join(entry.get_any_name() for entry in model.inputs)
        raise ModelError(f"{file} has {len(model.inputs)} inputs ({names}): an image classifier has one")
    entry = model.inputs[0]
    dtype = np.dtype(entry.get_element_type().to_dtype())
    if dtype not in _TYPES:
        raise ModelError(f"{file} wants {dtype} input: only float and uint8 images are supported")
    shape = tuple(None if size.is_dynamic else int(size.get_length()) for size in entry.get_partial_shape())
    index = _answer(model)
    requests: dict[tuple[int, ...], Any] = {}

    def compute(images: NDArray[Any]) -> NDArray[Any]:
        if images.shape not in requests:
            requests[images.shape] = _compiled(model, images.shape, threads, file).create_infer_request()
        found = requests[images.shape].infer({0: images}, share_inputs=True, share_outputs=True)
        return np.array(found[index])  # the runtime's own memory, which the next call overwrites

    return Session(
        path=file,
        dtype=dtype,
        shape=shape,
        output=model.outputs[index].get_any_name(),
        compute=compute,
        errors=_ERRORS,
        explain=_cause,
        gives_class=not _floating(model.outputs[index]),
    )


def _answer(model: Any) -> int:
    """Position of the output to read: the first of floating-point numbers, else the first."""
    return next((i for i, output in enumerate(model.outputs) if _floating(output)), 0)


def _floating(output: Any) -> bool:
    return bool(np.issubdtype(np.dtype(output.get_element_type().to_dtype()), np.floating))


def node_counts(path: StrPath) -> dict[str, int]:
    """Layer and type of its input -> how many, in the graph that OpenVINO runs for ``path`` at batch 1: ``{"Convolution u8": 19, ...}``.

    An integer type says that the layer runs in 8 bits; a convolution of a quantized file that cannot is ``Convolution f32``.

    Raises:
        ModelError: the runtime refuses it.
    """
    file = Path(path)
    read_model(file, weights=False)
    model = _read(file)
    shape = [None if size.is_dynamic else int(size.get_length()) for size in model.inputs[0].get_partial_shape()]
    compiled = _compiled(model, (shape[0] or 1, *shape[1:]), 1, file)
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in infos]
    return dict(sorted(Counter(f"{kind} {precision}" for kind, precision in kinds if kind not in _NO_LAYERS).items()))


@cache
def _core() -> Any:
    return _openvino.Core()


def _version() -> str:
    """Without the build number and branch: ``2026.4.1``."""
    return str(_openvino.get_version()).partition("-")[0]


def _read(file: Path) -> Any:
    try:
        return _core().read_model(str(file))
    except _ERRORS as error:
        raise _refused(file, error) from error


def _compiled(model: Any, shape: tuple[int | None, ...], threads: int, file: Path) -> Any:
    """``model`` for inputs of this shape, None where it stays open; the model itself is left as it is."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    try:
        fixed = model.clone()
        fixed.reshape([-1 if size is None else size for size in shape])
        return _core().compile_model(fixed, "CPU", settings)
    except _ERRORS as error:
        raise _refused(file, error) from error


def _refused(file: Path, error: Exception) -> ModelError:
    return ModelError(f"OpenVINO {_version()} cannot run {file}: {_cause(error)}")


def _cause(error: BaseException, limit: int = 200) -> str:
    """What an error of OpenVINO says, in one line, without the lines that say where in its source it was found."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_NOISE)]
    unknown = [line.lstrip("- ") for line in told if "No conversion rule" in line]
    return one_line(" ".join(unknown or told) or str(error), limit)
