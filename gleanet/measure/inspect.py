"""What an ONNX file is: versions, inputs and outputs, nodes, layers with their costs, how it is quantized, and what will give trouble."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gleanet.core.errors import BadInput
from gleanet.measure.constants import constants_of
from gleanet.measure.graph import LayerCost, model_layers, refuse_hidden_layers, sub_graphs, without_functions
from gleanet.measure.metadata import metadata_of
from gleanet.measure.runtime import Session, StrPath, check_external, main_inputs, open_session, read_model
from gleanet.measure.timing import call_of, takes_several

_DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
_OPERATORS = ("QLinearConv", "QLinearMatMul", "QGemm")
_SCALE_OF_WEIGHT = 4  # its position among the inputs of _OPERATORS
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Value:
    """An input or output: ``shape`` has names where a dimension is free ("?" where it has none)."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Layer:
    """A layer with weights: ``macs`` per image, ``share`` of the MACs of all layers, in [0, 1]; ``weight`` is the shape of its weights."""

    name: str
    kind: str
    weight: tuple[int, ...]
    dtype: str
    macs: int
    params: int
    share: float


@dataclass(frozen=True)
class Structure:
    """What a file holds.

    Attributes:
        bytes: on disk, external data included.
        domains: {operator set: version} besides the standard one, whose version is ``opset``.
        batch: images a call must have; None: any number.
        layout: NCHW or NHWC.
        nodes: {operator: how many} in the main graph.
        external: names of the data files beside it.
        quantized: how, in words; empty for a float file.
        trouble: sentences on what does not work, or works differently than one would expect.
    """

    file: str
    bytes: int
    opset: int
    ir_version: int
    producer: str
    domains: dict[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    batch: int | None
    layout: str
    nodes: dict[str, int]
    layers: tuple[Layer, ...]
    macs: int
    params: int
    external: tuple[str, ...]
    quantized: str
    trouble: tuple[str, ...]


def structure_of(path: StrPath) -> Structure:
    """Look at an ONNX file; where its image size is known, a noise image or two must pass through.

    Raises:
        ModelError: it cannot be read, the runtime refuses it, its shapes contradict each other, or it is no image classifier (one image
            input, one row of numbers for each image).
    """
    file = Path(path)
    session = open_session(file)
    model = read_model(file)
    outside = check_external(read_model(file, weights=False), file)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    kinds = Counter(node.op_type for node in model.graph.node)
    inputs, outputs = tuple(map(_value, main_inputs(model))), tuple(map(_value, model.graph.output))
    found, open_size = _layers(model, file, session)
    trouble = [*open_size, *_trouble(model, file, session)]
    macs = sum(layer.macs for layer in found)
    return Structure(
        file=str(file),
        bytes=file.stat().st_size + sum(other.stat().st_size for other in outside),
        opset=max((versions.get(domain, 0) for domain in _STANDARD), default=0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        domains={domain: version for domain, version in versions.items() if domain not in _STANDARD},
        inputs=inputs,
        outputs=outputs,
        batch=session.batch,
        layout=session.layout,
        nodes=dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        layers=tuple(
            Layer(layer.name, layer.kind, layer.weight, layer.dtype, layer.macs, layer.params, layer.macs / macs if macs else 0.0)
            for layer in found
        ),
        macs=macs,
        params=sum(layer.params for layer in found),
        external=tuple(str(other.relative_to(file.parent.resolve())) for other in outside),
        quantized=_quantized(model, file, found),
        trouble=tuple(trouble),
    )


def _value(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    kind = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "unknown"
    return Value(value.name, kind, tuple(d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim))


def _layers(model: onnx.ModelProto, file: Path, session: Session) -> tuple[tuple[LayerCost, ...], list[str]]:
    """The layers, and what a run showed; an open image size and hidden layers are worth a look all the same, so they are only said."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        session.image_shape()
        refuse_hidden_layers(without_functions(model, file), file)
    except BadInput as error:
        return (), [f"Nothing is counted: {error}."]
    if session.batch is None and not takes_several(session):
        return model_layers(copy, file), ["The batch is free at the input but fixed to 1 further in: images go one by one."]
    call_of(session, session.batch or 1)()
    return model_layers(copy, file), []


def _trouble(model: onnx.ModelProto, file: Path, session: Session) -> Iterator[str]:
    graph = model.graph
    if session.batch:
        yield f"The batch is fixed to {session.batch}: no other batch size is timed."
    if len(graph.output) > 1:
        yield f"{len(graph.output)} outputs: {session.output!r} counts as the logits."
    if session.gives_class:
        yield f"It gives the class ({session.output!r}), not scores: gleanet export --output logits cuts the argmax off."
    listed = len(graph.input) - len(main_inputs(model))
    if listed and model.ir_version >= 4:
        yield f"{listed} weights are listed among the inputs, so runtimes take them for variable: list them as initializers alone."
    for name in training_nodes(graph):
        yield f"{name} is in training mode: answers depend on the batch; export the model for evaluation."
    if hidden := sorted({node.op_type for node, _ in sub_graphs(graph)}):
        yield f"Sub-graphs ({', '.join(hidden)}): export the model without control flow."
    foreign = Counter(f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in _STANDARD)
    if foreign and not model.functions:
        yield f"Operators that not every runtime has: {', '.join(f'{name} x {count}' for name, count in sorted(foreign.items()))}."
    if any(node.op_type == "Softmax" and set(node.output) & {output.name for output in graph.output} for node in graph.node):
        yield "It ends in a Softmax: what is compared are probabilities, not logits."
    if session.dtype != "uint8" and metadata_of(model, file).preprocess is None:
        yield "It does not say how its input is normalised (no gleanet.preprocess): that of ImageNet networks is assumed."


def training_nodes(graph: onnx.GraphProto) -> Iterator[str]:
    """Kind and name of batch-norms that normalise by the batch (those with several outputs do, too) and of dropouts that drop."""
    flags = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BOOL]
    true = {tensor.name for tensor in flags if numpy_helper.to_array(tensor).all()}
    for node in graph.node:
        batch = node.op_type == "BatchNormalization" and sum(map(bool, node.output)) > 1
        drops = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in true
        if batch or drops or any(a.name == "training_mode" and a.i for a in node.attribute):
            yield f"{node.op_type} {node.name or node.output[0]!r}"


def _quantized(model: onnx.ModelProto, file: Path, layers: tuple[LayerCost, ...]) -> str:
    """Form, types and share of the quantized layers in words."""
    kinds = {node.op_type for node in model.graph.node}
    dynamic, operators = kinds & set(_DYNAMIC), kinds & set(_OPERATORS)
    if not dynamic and not operators and "DequantizeLinear" not in kinds:
        return ""
    constants = constants_of(without_functions(model, file), file)
    form = "dynamic" if dynamic else "operators (QOperator)" if operators else "QDQ pairs"
    scales = [node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear" and _matrix(node.input[0], constants)]
    scales += [node.input[_SCALE_OF_WEIGHT] for node in model.graph.node if node.op_type in _OPERATORS]
    per_channel = any(name in constants and constants[name].size > 1 for name in scales)
    points = [node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
    activations = sorted({str(constants[name].dtype) for name in points if name in constants}) or ["uint8"]
    real = [layer for layer in layers if layer.macs]
    whole = [layer for layer in real if layer.dtype and "float" not in layer.dtype]
    weights = "/".join(sorted({layer.dtype for layer in whole})) or "no"
    way = "per channel" if per_channel else "per tensor"
    return f"{form}: {len(whole)} of {len(real)} layers, {'/'.join(activations)} activations, {weights} weights {way}"


def _matrix(name: str, constants: dict[str, NDArray[Any]]) -> bool:
    return name in constants and constants[name].ndim > 1
