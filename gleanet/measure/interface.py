"""How an ONNX file wants to be called, for code in any language."""

from pathlib import Path

import onnx

from gleanet.core.records import Interface
from gleanet.measure.metadata import read_metadata
from gleanet.measure.runtime import StrPath, open_session, read_model


def read_interface(path: StrPath) -> Interface:
    """Names, types and shapes of a classifier's input and output, with its metadata; ``file`` is the name without its folder.

    Raises:
        ModelError: not a usable classifier.
    """
    file = Path(path)
    session, metadata = open_session(file), read_metadata(file)
    pixels = str(session.dtype) == "uint8"
    preprocess = None if pixels else metadata.preprocess
    return Interface(
        file=file.name,
        input=input_name(read_model(file, weights=False)),
        output=session.output,
        dtype=str(session.dtype),
        shape=session.shape,
        layout=session.layout if preprocess is None else preprocess.layout,
        gives="class" if session.gives_class else "scores",
        preprocess=preprocess,
        classes=metadata.classes,
    )


def input_name(model: onnx.ModelProto) -> str:
    """The one input that is not a weight."""
    stored = {tensor.name for tensor in model.graph.initializer} | {sparse.values.name for sparse in model.graph.sparse_initializer}
    return str(next(value.name for value in model.graph.input if value.name not in stored))
