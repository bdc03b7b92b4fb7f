"""Code to copy: how to load a run's files in several runtimes, with its own names, shapes and constants."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as files_of_package

from jinja2 import DictLoader, Environment, StrictUndefined

from gleanet.core.records import Interface, Preprocess

OPEN_SIZE = 224  # pixels a side, where the file leaves them open
MOST_CLASSES = 100  # names that are written into the code
IMAGE = "photo.png"
CHECKPOINT = "model.gleanet"


@dataclass(frozen=True)
class Snippet:
    """``name``: of the runtime and its language; ``language``: python, cpp, javascript or csharp; ``note``: what to know before it."""

    name: str
    language: str
    code: str
    note: str = ""


_KINDS = (
    ("onnxruntime.py.j2", "Python, ONNX Runtime", "python"),
    ("onnxruntime.cpp.j2", "C++, ONNX Runtime", "cpp"),
    ("onnxruntime_web.js.j2", "JavaScript, onnxruntime-web", "javascript"),
    ("openvino.py.j2", "Python, OpenVINO", "python"),
    ("onnxruntime.cs.j2", "C#, ONNX Runtime", "csharp"),
)
_PYTORCH = ("pytorch.py.j2", "Python, PyTorch", "python")
_PARTS = ("pixels.py.j2", "says.py.j2")


def snippets(interface: Interface | None, *, checkpoint: bool = False) -> tuple[Snippet, ...]:
    """The code for every runtime; nothing for a run whose record does not say how its file is called.

    Args:
        checkpoint: whether the run has a ``model.gleanet``, for PyTorch.
    """
    if interface is None or len(interface.shape) != 4:
        return ()
    environment = _environment()
    facts = _facts(interface)
    found = [Snippet(name, language, environment.get_template(file).render(facts)) for file, name, language in _KINDS]
    if checkpoint:
        file, name, language = _PYTORCH
        own = facts | {"layout": "NCHW", "dtype": "float32", "batch": 1, "gives": "scores"}
        if interface.dtype == "float32":  # a uint8 file has its constants in the graph: the record does not know them
            found.append(
                Snippet(name, language, environment.get_template(file).render(own), "The network before quantization, to go on with.")
            )
    return tuple(found)


def _facts(interface: Interface) -> dict[str, object]:
    """What the templates are filled with."""
    batch, *rest = interface.shape
    channels, height, width = (rest[2], *rest[:2]) if interface.layout == "NHWC" else rest
    told = interface.preprocess or Preprocess(mean=(0.0,), std=(1.0,))
    low, high = told.range
    return {
        "file": interface.file,
        "image": IMAGE,
        "checkpoint": CHECKPOINT,
        "input": interface.input,
        "output": interface.output,
        "dtype": interface.dtype,
        "layout": interface.layout,
        "gives": interface.gives,
        "batch": batch or 1,
        "channels": channels or 3,
        "height": height or OPEN_SIZE,
        "width": width or OPEN_SIZE,
        "known": interface.preprocess is not None,
        "bgr": told.color == "BGR",
        "plain": (low, high) == (0.0, 1.0),
        "low": repr(float(low)),
        "span": repr(float(high - low)),
        "mean": _spread(told.mean, channels or 3),
        "std": _spread(told.std, channels or 3),
        "classes": interface.classes if len(interface.classes) <= MOST_CLASSES else (),
    }


def _spread(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(float(value) for value in values) * (channels if len(values) == 1 else 1)


def _environment() -> Environment:
    """Plain text: the page escapes what comes of it. Names are quoted as JSON, which all these languages read."""
    folder = files_of_package("gleanet.report") / "snippets"
    names = [file for file, _, _ in (*_KINDS, _PYTORCH)] + [*_PARTS]
    texts = {name: (folder / name).read_text("utf-8") for name in names}
    environment = Environment(
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["quoted"] = json.dumps
    environment.filters["names"] = _names
    environment.filters["inner"] = lambda text: text[1:-1]
    environment.filters["floats"] = lambda values: ", ".join(f"{value!r}f" for value in values)
    return environment


def _names(classes: Sequence[str]) -> str:
    """``["cat", "dog"]``, broken into lines of at most 100 characters."""
    lines, line = [], ""
    for name in (json.dumps(name) for name in classes):
        if line and len(line) + len(name) > 100:
            lines.append(line)
            line = ""
        line += f"{', ' if line else ''}{name}"
    lines.append(line)
    return "[" + ",\n    ".join(lines) + "]"
