"""What every method needs once: the model optimized (batch-norms folded), new enough, every node named; and images from any batch form."""

import itertools
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from gleanet.core.errors import DataError, ModelError, QuantizationError
from gleanet.core.lazy import Array, Lazy
from gleanet.measure.activations import rewrite_activations
from gleanet.measure.graph import sub_graphs, without_functions
from gleanet.measure.inspect import training_nodes
from gleanet.measure.runtime import ORT_ERRORS, main_inputs, one_line, serialize

log = logging.getLogger(__name__)

MIN_OPSET = 13  # QuantizeLinear and DequantizeLinear have an axis, which weights per channel need, since opset 13
LEAST_OPSET = 10  # and they exist since opset 10
SUM_BROADCASTS = 8  # as Add does
RESIZE_MODES = 11  # from here on Resize says how coordinates are transformed
SAME = 1e-3  # of the largest logit: what raising the opset may change
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"}
_OPTIMIZED = {"FusedConv", "NhwcFusedConv", "FusedGemm"}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_FUSED = re.compile(r"(/\w*Fusion\w*/?)+$")
_HALF: dict[int, str] = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16", onnx.TensorProto.DOUBLE: "float64"}


def prepare(model: onnx.ModelProto, file: Path, *, activations: Literal["fast", "plain"] = "fast") -> onnx.ModelProto:
    """A copy of ``model`` ready for the inserter: opset 13 or newer, optimized (constants and batch-norms folded), shapes inferred, every
    node named, nodes that had no name by their output, no initializers among the inputs, Mish-like activations in their fast form
    (:mod:`gleanet.measure.activations`) unless ``activations`` is "plain".

    Where the opset cannot be raised, or the raised model computes something else, it stays (10 to 12): then weights per channel are
    impossible. Where the model says that it takes any batch but fixes it to 1 further in, the input says so too.

    Raises:
        ModelError: already quantized, in training mode, not float32, layers inside a sub-graph, or the runtime refuses it.
        QuantizationError: older than opset 10, and the opset cannot be raised.
    """
    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        raise ModelError(f"{file} is quantized already: give the float model it was made from", slug="onnx-quantized")
    if fused := sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if _is_fused(node)}):
        raise ModelError(
            f"{file} is optimized already, by ONNX Runtime ({', '.join(fused)}), and would stay in float: give the file from before"
        )
    if training := next(training_nodes(model.graph), None):
        raise ModelError(f"{file}: {training} is in training mode, its answers depend on the batch: export the model for evaluation")
    model = _plain(model, file)
    ready = _raised(model, file) or _optimized(model, file)
    if opset_of(ready) < LEAST_OPSET:
        raise QuantizationError(f"{file} has opset {opset_of(model)} and cannot be raised to {MIN_OPSET}: export it anew")
    if any(True for _ in sub_graphs(ready.graph)):
        kinds = ", ".join(sorted({node.op_type for node, _ in sub_graphs(ready.graph)}))
        raise ModelError(f"{file} has sub-graphs ({kinds}), which cannot be quantized: export it without control flow")
    _refuse_other_floats(ready, file)
    if activations == "fast":
        rewrite_activations(ready)
    _pin_batch(ready, file)
    ready = _inferred(ready, file)
    _name_nodes(ready.graph)
    return ready


def _is_fused(node: onnx.NodeProto) -> bool:
    """Whether a node is a layer in a form that ONNX Runtime's optimizer writes and its quantizer does not know."""
    return node.domain == "com.microsoft.nchwc" or (node.domain == "com.microsoft" and node.op_type in _OPTIMIZED)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators; 0 where the file does not say."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _plain(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """A copy without functions, without initializers among the inputs, sums of two as additions, every node named."""
    plain = onnx.ModelProto()
    plain.CopyFrom(without_functions(model, file))
    inputs = main_inputs(plain)
    if len(inputs) < len(plain.graph.input):
        plain.ir_version = max(plain.ir_version, 4)  # from 4 on initializers need not be inputs
        kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
        del plain.graph.input[:]
        plain.graph.input.extend(kept)
    for node in plain.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2 and opset_of(plain) >= SUM_BROADCASTS:
            node.op_type = "Add"  # the same, and it has an integer form
    _name_nodes(plain.graph)
    return plain


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own, in place: exclusion and reports go by name."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        wanted = node.name or next((name for name in node.output if name), node.op_type)
        others = (f"{wanted}_{number}" for number in itertools.count(index))
        node.name = next(name for name in itertools.chain([wanted], others) if name not in taken)
        taken.add(node.name)


def _raised(model: onnx.ModelProto, file: Path) -> onnx.ModelProto | None:
    """``model`` with opset 13, optimized; None where the converter cannot, or the result computes something else.

    The converter is known to change what some operators mean (Resize, Hardmax), so both are run on one image and compared.
    """
    if opset_of(model) >= MIN_OPSET:
        return _optimized(model, file)
    try:
        raised: onnx.ModelProto = onnx.version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        log.debug("%s: opset %d not raised: %s", file, opset_of(model), one_line(error))
        return None
    for node in raised.graph.node if opset_of(model) < RESIZE_MODES else ():
        if node.op_type == "Resize":
            mode = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}  # what Resize and Upsample meant before
            kept = [a for a in node.attribute if a.name not in mode]
            del node.attribute[:]
            node.attribute.extend([*kept, *(onnx.helper.make_attribute(key, value) for key, value in mode.items())])
    try:
        ready = _optimized(raised, file)
        wanted, got = _on_noise(model, file), _on_noise(ready, file)
    except ModelError as error:
        log.debug("%s: opset %d not raised: %s", file, opset_of(model), error)
        return None
    if wanted is None or got is None:
        return ready
    same = wanted.shape == got.shape and np.allclose(wanted, got, rtol=0, atol=SAME * float(np.abs(wanted).max()), equal_nan=True)
    return ready if same else None


def _optimized(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """What ONNX Runtime's basic optimizations make of it: they keep to standard operators."""
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        _session(model, file, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, optimized)
        ready = onnx.load(str(optimized))
    del ready.graph.value_info[:]
    known = {node.name for node in model.graph.node} - {node.name for node in ready.graph.node}
    for node in ready.graph.node:  # "head/GemmTransposeFusion/" is still the layer "head"
        own = _FUSED.sub("", node.name)
        if own in known:
            node.name = own
            known.discard(own)
    return ready


def _session(model: onnx.ModelProto, file: Path, level: Any, optimized: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        # equal branches are not merged: every layer keeps its name, and its multiply-accumulates count
        merging = ["CommonSubexpressionElimination"]
        return ort.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=merging)
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime {ort.__version__} cannot run {file}: {one_line(error)}") from error


def _on_noise(model: onnx.ModelProto, file: Path, images: int = 1) -> NDArray[Any] | None:
    """The first output for random images; None where the image size is open.

    Raises:
        ModelError: it does not run.
    """
    session = _session(model, file, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    entry = session.get_inputs()[0]
    first, *rest = (size if isinstance(size, int) and size > 0 else 0 for size in entry.shape)
    if not all(rest):
        return None
    rng, shape = np.random.default_rng(0), (first or images, *rest)
    noise: NDArray[Any] = (
        rng.integers(0, 256, shape, dtype=np.uint8) if entry.type == "tensor(uint8)" else rng.standard_normal(shape, dtype=np.float32)
    )
    try:
        return np.asarray(session.run(None, {entry.name: noise})[0])
    except ORT_ERRORS as error:
        raise ModelError(f"{file} does not run on input {noise.dtype} {list(shape)}: {one_line(error)}") from error


def _refuse_other_floats(model: onnx.ModelProto, file: Path) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name in (name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input[1:2]):
        if kinds.get(name) in _HALF:
            raise ModelError(f"{file} has {_HALF[kinds[name]]} weights ({name!r}): give the float32 model it was made from")
    entry = main_inputs(model)[0].type.tensor_type.elem_type
    if entry in _HALF:
        raise ModelError(f"{file} takes {_HALF[entry]} images: give the float32 model it was made from")


def _pin_batch(model: onnx.ModelProto, file: Path) -> None:
    """Set a free batch to 1, in place, where two images do not run but one does."""
    dims = main_inputs(model)[0].type.tensor_type.shape.dim
    if not dims or dims[0].dim_value > 0:
        return
    try:
        answer = _on_noise(model, file, images=2)
    except ModelError:
        _on_noise(model, file)  # what fails on one image too is an error
    else:
        if answer is None or (answer.ndim and answer.shape[0] == 2):
            return
    dims[0].dim_value = 1
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _inferred(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"the shapes in {file} contradict each other: {one_line(error)}") from error


def images_of(batches: Iterable[Any]) -> Iterator[NDArray[Any]]:
    """The images of each batch: an array or torch tensor [N, ...], or a tuple or list whose first entry is one.

    Raises:
        DataError: something else.
    """
    for batch in batches:
        yield as_array(batch[0] if isinstance(batch, tuple | list) else batch)


def labelled(batches: Iterable[Any]) -> tuple[Array, NDArray[np.int64]]:
    """All images [N, ...] and labels [N] int64 of an iterable of (images, labels). A single batch may be computed as it is asked for.

    Raises:
        DataError: a batch without labels, counts that differ, or no image at all.
    """
    images: list[Array] = []
    labels: list[NDArray[np.int64]] = []
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(f"evaluation needs (images, labels) batches, got {type(batch).__name__}")
        x, y = batch[0] if isinstance(batch[0], Lazy) else as_array(batch[0]), as_array(batch[1]).astype(np.int64).reshape(-1)
        if len(x) != len(y):
            raise DataError(f"{len(x)} images but {len(y)} labels in an evaluation batch")
        images.append(x)
        labels.append(y)
    if not sum(len(y) for y in labels):
        raise DataError("no evaluation images: give at least one batch")
    whole = images[0] if len(images) == 1 else np.concatenate([np.asarray(part) for part in images])
    return whole, np.concatenate(labels)


def as_array(value: Any) -> NDArray[Any]:
    """A numpy array of ``value``, which may be a torch tensor (torch itself is not imported); floating types become float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        raise DataError(f"expected a numpy array or torch tensor of images, got {type(value).__name__}")
    return np.ascontiguousarray(value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value)
