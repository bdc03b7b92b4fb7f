"""ONNX files in ONNX Runtime: read safely, opened with a fixed number of threads, refused with one line when they cannot be used."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from gleanet.core.errors import ModelError
from gleanet.measure.session import Session as Session
from gleanet.measure.session import StrPath as StrPath
from gleanet.measure.session import one_line as one_line
from gleanet.measure.wellformed import check_inputs, check_tensors, check_text

# Everything ONNX Runtime raises; its classes share no base but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(ort_errors, name)
    for name in (
        "Fail",
        "InvalidArgument",
        "NoSuchFile",
        "NoModel",
        "EngineError",
        "RuntimeException",
        "InvalidProtobuf",
        "NotImplemented",
        "InvalidGraph",
        "EPFail",
    )
    if hasattr(ort_errors, name)
)

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_FLOATING = ("tensor(float)", "tensor(float16)", "tensor(double)")
_WHOLE = ("tensor(int64)", "tensor(int32)")


def runtime_name() -> str:
    """The runtime and its version, as it stands in records: ``onnxruntime 1.32.0``."""
    return f"onnxruntime {ort.__version__}"


def read_model(path: StrPath, *, weights: bool = True) -> onnx.ModelProto:
    """Parse an ONNX file; tensors stored outside must lie inside the file's own folder.

    Args:
        path: the file.
        weights: also read external tensors into the model.

    Raises:
        ModelError: missing, unreadable, not ONNX, damaged, or external data that leaves the folder, is absolute, a link, or missing.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except IsADirectoryError as error:
        raise ModelError(f"{file} is a folder: give an ONNX file", slug="onnx-unreadable") from error
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror or error}", slug="onnx-unreadable") from error
    if other := _other_form(data):
        raise ModelError(f"{file} is {other}", slug="onnx-unreadable")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"{file} is not an ONNX file, or it is truncated ({len(data)} bytes)", slug="onnx-unreadable") from error
    if not model.ir_version or not model.graph.output:
        raise ModelError(f"{file} is not an ONNX file: it holds no graph", slug="onnx-unreadable")
    check_text(model, file)
    check_inputs(model, file)
    outside = check_external(model, file)
    if weights and outside:
        try:
            onnx.load_external_data_for_model(model, str(file.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"{file}: external data cannot be read: {one_line(error)}") from error
    check_tensors(_tensors(model), file)
    return model


def _other_form(data: bytes) -> str:
    """What a file is that holds an ONNX network in another form than the usual one, and what to do; empty for all others."""
    if data[4:8] == b"ORTM":
        return "in ONNX Runtime's own format (.ort), which cannot be converted back: give the .onnx file that it was made from"
    start = data[:200].lstrip()
    if start.startswith((b"ir_version:", b"<")) or (start.startswith(b"{") and (b'"ir_version"' in start or b'"irVersion"' in start)):
        return "an ONNX network written as text: convert it with onnx.save(onnx.load(file), 'model.onnx')"
    return ""


def main_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must give: up to IR version 3, initializers are listed among the inputs too."""
    stored = {tensor.name for tensor in model.graph.initializer} | {sparse.values.name for sparse in model.graph.sparse_initializer}
    return [value for value in model.graph.input if value.name not in stored]


def check_external(model: onnx.ModelProto, file: Path) -> tuple[Path, ...]:
    """The external data files of ``model``, each checked to lie inside the folder of ``file``.

    Raises:
        ModelError: a location is absolute, climbs out, passes through a symbolic link, or does not exist.
    """
    folder = file.parent.resolve()
    found: dict[Path, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        parts = Path(location).parts
        if not location or "\0" in location or "\\" in location or ":" in location or Path(location).is_absolute() or ".." in parts:
            raise ModelError(f"{file}: external data {location!r} of tensor {tensor.name!r} must be a relative path inside {folder}")
        target = folder / location
        links = [folder.joinpath(*parts[: i + 1]) for i in range(len(parts)) if folder.joinpath(*parts[: i + 1]).is_symlink()]
        if links or not target.resolve().is_relative_to(folder):
            raise ModelError(
                f"{file}: external data {location!r} of tensor {tensor.name!r} is a link that may leave {folder}: copy the data there"
            )
        if not target.is_file():
            raise ModelError(f"{file}: external data file {target} is missing: copy it beside the model")
        found[target] = None
    return tuple(found)


def open_session(path: StrPath, *, threads: int = 1, optimize: bool = True, optimized: StrPath | None = None) -> Session:
    """Open ``path`` on the CPU.

    ``threads`` threads work on one operator, one operator runs at a time. Worker threads stop spinning when a call returns, so that
    sessions that take turns do not steal each other's cores.

    Args:
        path: an ONNX file with exactly one input.
        threads: > 0.
        optimize: False switches ONNX Runtime's graph optimizations off (needed to see what a QDQ model means, not how it is run).
        optimized: also write the graph that the runtime made of it to this path.

    Raises:
        ModelError: unreadable, not ONNX, refused by ONNX Runtime, more than one input, an input type that is not float or uint8, or no
            output of floating-point numbers.
    """
    file = Path(path)
    read_model(file, weights=False)  # our own checks first: ONNX Runtime would follow external data anywhere it can
    return open_checked(file, threads=threads, optimize=optimize, optimized=optimized)


def open_checked(file: Path, *, threads: int = 1, optimize: bool = True, optimized: StrPath | None = None) -> Session:
    """The same for a file that :func:`read_model` has checked already."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime {ort.__version__} cannot run {file}: {one_line(error)}", slug="onnx-refused") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(f"{file} has {len(inputs)} inputs ({names}): an image classifier has one")
    if inputs[0].type not in _DTYPES:
        raise ModelError(f"{file} wants {inputs[0].type} input: only float and uint8 images are supported")
    entry, (answer, scores) = inputs[0].name, _answer(session, file)

    def compute(images: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = session.run([answer], {entry: images})[0]
        return found

    return Session(
        path=file,
        dtype=np.dtype(_DTYPES[inputs[0].type]),
        shape=tuple(size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape),
        output=answer,
        compute=compute,
        errors=ORT_ERRORS,
        gives_class=not scores,
    )


def _answer(session: Any, file: Path) -> tuple[str, bool]:
    """(name of the output to read, whether it holds scores): the first of floating-point numbers, else the first of whole ones."""
    outputs = session.get_outputs()
    for kinds, scores in ((_FLOATING, True), (_WHOLE, False)):
        found = next((output.name for output in outputs if output.type in kinds), None)
        if found is not None:
            return found, scores
    shown = ", ".join(output.type for output in outputs)
    raise ModelError(f"{file} gives {shown}, neither scores nor a class: export it without what follows them")


def optimized_graph(path: StrPath) -> onnx.GraphProto:
    """The graph that ONNX Runtime runs for ``path`` on this machine; without the values of external data.

    Raises:
        ModelError: the runtime refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(path, optimized=optimized)
        # weights that lie outside ``path`` are named as they are there, and are not in this folder
        return onnx.load(str(optimized), load_external_data=False).graph


def node_counts(path: StrPath) -> dict[str, int]:
    """Operator -> how many, in the graph that ONNX Runtime runs for ``path`` on this machine. Raises as :func:`optimized_graph`."""
    return dict(sorted(Counter(node.op_type for node in optimized_graph(path).node).items()))


def session_in_memory(model: onnx.ModelProto, *, threads: int = 1, optimize: bool = True) -> Any:
    """ONNX Runtime's own session of a model that is no file, for looking at single tensors. Raises one of ``ORT_ERRORS``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])


def serialize(model: onnx.ModelProto) -> bytes:
    """``model`` as bytes that are the same for the same model.

    Raises:
        ModelError: larger than the 2 GB a single ONNX file can hold.
    """
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError) as error:
        raise ModelError(f"the model does not fit into one ONNX file (limit 2 GB): {one_line(error)}") from error


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor a file can hold: initializers, sparse ones, attributes, sub-graphs, functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)
