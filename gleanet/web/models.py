"""What the page must know of an ONNX file: what it takes, how pixels become that, and what its answer means."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gleanet.core.errors import ModelError
from gleanet.core.records import Preprocess
from gleanet.measure import open_session, read_metadata, read_model
from gleanet.measure.interface import input_name

OPEN_SIZE = 224  # pixels a side, where neither the file nor the samples say
# May stand between the last operator of meaning and the output.
_PLAIN = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "QuantizeLinear", "DequantizeLinear")
_INPUTS = {np.dtype(np.float32): "float32", np.dtype(np.uint8): "uint8"}


@dataclass(frozen=True)
class WebModel:
    """One file.

    Attributes:
        path: where it is.
        bytes: its size.
        input, output: names of the tensors.
        dtype: float32 or uint8. ``layout``: NCHW or NHWC.
        batch: images a call; channels: 1 or 3; height, width: of the image, in pixels.
        preprocess: how pixels become floats; None for uint8.
        gives: logits, softmax or argmax.
        classes: names in label order, empty where the file does not say.
    """

    path: Path
    bytes: int
    input: str
    output: str
    dtype: str
    layout: str
    batch: int
    channels: int
    height: int
    width: int
    preprocess: Preprocess | None
    gives: str
    classes: tuple[str, ...]

    def record(self, href: str, label: str, what: str) -> dict[str, Any]:
        """As the page reads it; ``href`` is the file's address beside the page, ``what`` says which step of the run made it."""
        facts = {name: value for name, value in asdict(self).items() if name != "path"}
        return {"href": href, "label": label, "what": what, "file": self.path.name, **facts}


def web_model(path: Path, size: tuple[int, int] | None = None) -> WebModel:
    """Read a file, and refuse it where the page could not run it.

    Args:
        path: an ONNX file; onnxruntime-web fetches one address, so its weights must be inside.
        size: (height, width) to use where the file leaves them open.

    Raises:
        ModelError: not a usable classifier, weights outside, an input that is neither float32 nor uint8 or not a grey or colour image,
            a float input without ``gleanet.preprocess``, or one that is unlike the input.
    """
    model, session = read_model(path, weights=False), open_session(path)
    kind = _INPUTS.get(session.dtype)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{path} keeps weights in another file, which a browser does not fetch: gleanet export {path} makes it one")
    if kind is None or len(session.shape) != 4:
        shape = ", ".join("?" if size is None else str(size) for size in session.shape)
        raise ModelError(f"{path} takes {session.dtype} [{shape}]: the page gives float32 or uint8 images with 4 dimensions")
    metadata = read_metadata(path)
    preprocess = None if kind == "uint8" else metadata.preprocess
    if kind == "float32" and preprocess is None:
        advice = f"gleanet export {path} --input uint8 --mean M --std S puts it in"
        raise ModelError(f"{path} does not say how pixels become its input (no gleanet.preprocess): {advice}")
    layout = preprocess.layout if preprocess is not None else session.layout
    first, *rest = session.shape
    channels, height, width = (rest[2], *rest[:2]) if layout == "NHWC" else rest
    _check(path, channels or 3, preprocess)
    open_height, open_width = size or (OPEN_SIZE, OPEN_SIZE)
    return WebModel(
        path=path,
        bytes=path.stat().st_size,
        input=input_name(model),
        output=session.output,
        dtype=kind,
        layout=layout,
        batch=first or 1,
        channels=channels or 3,
        height=height or open_height,
        width=width or open_width,
        preprocess=preprocess,
        gives="argmax" if session.gives_class else _gives(model.graph, session.output),
        classes=metadata.classes,
    )


def _check(path: Path, channels: int, preprocess: Preprocess | None) -> None:
    if preprocess is not None and (preprocess.layout not in ("NCHW", "NHWC") or preprocess.color not in ("RGB", "BGR")):
        raise ModelError(f"{path}: gleanet.preprocess says layout {preprocess.layout!r}, color {preprocess.color!r}: NCHW, NHWC; RGB, BGR")
    if channels not in (1, 3):
        raise ModelError(f"{path} takes {channels} channels: the page gives grey (1) or colour (3) images")
    if preprocess is None:
        return
    counts = {len(preprocess.mean), len(preprocess.std)}
    if len(counts) != 1 or not counts <= {1, channels} or 0 in preprocess.std:
        raise ModelError(f"{path}: gleanet.preprocess has means {preprocess.mean} and deviations {preprocess.std} for {channels} channels")


def _gives(graph: onnx.GraphProto, name: str) -> str:
    """softmax where that is the last operator of meaning before the output ``name``, else logits."""
    makers = {made: node for node in graph.node for made in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _PLAIN:
        node = makers.get(node.input[0])
    return "softmax" if node is not None and node.op_type in ("Softmax", "QLinearSoftmax") else "logits"
