"""An activation of several nodes in 8 bits is one table, and the table is what float arithmetic between the same codes gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from gleanet.core.stats import sqnr_db
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.outlook import outlook
from gleanet.quantize.pointwise import look_up, pointwise
from gleanet.quantize.prepare import prepare
from tests.tiny_onnx import floats, model_of, save

FILE = Path("m.onnx")
X = floats(32)
ACTIVATIONS = {  # one node a word group: operator, inputs, output; "in" is what goes in
    "mish": "Softplus in s; Tanh s t; Mul in t y",
    "beamish": "Mul in a u; Softplus u s; Mul s b m; Tanh m t; Mul in t y",
    "gelu": "Div in r u; Erf u e; Add e 1 o; Mul in o m; Mul m h y",
}
CONSTANTS = {"a": 0.8, "b": 1.3, "r": 2**0.5, "1": 1, "h": 0.5}


def network(activation: str, *, channels: bool = False, opset: int = 18) -> onnx.ModelProto:
    """conv - activation - conv - add with the first - activation - pool - gemm; ``channels``: a beta for each channel."""
    rng = np.random.default_rng(0)
    weights = {"c.weight": rng.standard_normal((8, 3, 3, 3)) / 3, "d.weight": rng.standard_normal((8, 8, 3, 3)) / 6}
    weights |= {"e.weight": rng.standard_normal((8, 4))}
    for name, value in CONSTANTS.items():
        weights[name] = np.linspace(0.7, 2, 8).reshape(1, 8, 1, 1) if channels and name == "b" else np.array(value)
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [helper.make_node("Conv", ["x", "c.weight"], ["c"], "c", **same), *act(activation, "c", "one")]
    nodes += [helper.make_node("Conv", ["one.y", "d.weight"], ["d"], "d", **same), helper.make_node("Add", ["d", "one.y"], ["add"], "add")]
    nodes += [*act(activation, "add", "two"), helper.make_node("GlobalAveragePool", ["two.y"], ["pool"], "pool")]
    nodes += [helper.make_node("Flatten", ["pool"], ["flat"], "flat"), helper.make_node("MatMul", ["flat", "e.weight"], ["y"], "e")]
    used = {name for node in nodes for name in node.input}
    kept = {name: value.astype(np.float32) for name, value in weights.items() if name in used}
    return model_of(nodes, kept, ("n", 3, 8, 8), ("n", 4), opset=opset)


def act(kind: str, source: str, prefix: str) -> list[onnx.NodeProto]:
    made = []
    for words in ACTIVATIONS[kind].split("; "):
        operator, *inputs, output = words.split()
        names = [source if name == "in" else name if name in CONSTANTS else f"{prefix}.{name}" for name in inputs]
        made.append(helper.make_node(operator, names, [f"{prefix}.{output}"], f"{prefix}.{output}"))
    return made


def quantized(source: onnx.ModelProto, method: str, *, tables: bool = True) -> onnx.ModelProto:
    prepared = prepare(source, FILE)
    made = insert(prepared, min_max(prepared, [X], file=FILE), METHODS[method], source)
    made = look_up(made) if tables else made
    read = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= read
    onnx.checker.check_model(made, full_check=True)
    return made


def run(model: onnx.ModelProto, x: NDArray[np.float32] = X) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # what the file says: sums cannot saturate
    return np.asarray(ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])


def count(model: onnx.ModelProto, kind: str) -> int:
    return sum(node.op_type == kind for node in model.graph.node)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["u8s8", "u8s8-channel-head", "u8u8", "s8s8-channel"])
def test_a_table_gives_to_the_bit_what_float_between_the_codes_gives(activation: str, method: str) -> None:
    source = network(activation)
    table, nodes = quantized(source, method), quantized(source, method, tables=False)
    assert count(table, "GatherElements") == 2
    assert not count(table, "Exp") + count(table, "Erf")
    assert count(nodes, "GatherElements") == 0
    assert count(nodes, "Exp") + count(nodes, "Erf") == 2
    assert {"one.y", "two.y"} <= {node.name for node in table.graph.node}
    assert np.array_equal(run(table), run(nodes))
    assert np.array_equal(run(table, X[:1]), run(table)[:1])


def test_the_table_is_the_rounded_function() -> None:
    """Against the definition in float64; a value halfway between two codes may go either way."""
    model = quantized(network("beamish"), "u8s8")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    lookup = next(node for node in model.graph.node if node.op_type == "GatherElements")
    table = constants[lookup.input[0]]
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.input[:1]}
    codes = makers[makers[lookup.input[1]].input[0]].input[0]
    answers = next(node for node in model.graph.node if lookup.output[0] in node.input).output[0]
    (a, b), (c, d) = ([float(constants[name]) for name in node.input[1:3]] for node in (makers[codes], readers[answers]))
    x = (np.arange(256) - b) * a
    exact = x * np.tanh(1.3 * np.logaddexp(0, 0.8 * x)) / c + d
    assert table.dtype == np.uint8
    assert np.abs(table - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["u8s8-qop", "u8u8-channel-qop"])
def test_integer_operators_look_up_too(activation: str, method: str) -> None:
    source = network(activation)
    made = quantized(source, method)
    assert count(made, "GatherElements") == 1  # behind the second one is a pooling, which the inserter leaves in float
    assert sqnr_db(run(source), run(made)) > 20


@pytest.mark.parametrize(
    ("method", "channels"), [("u16s8", False), ("u8s8", True), ("u8s8-qop", True), ("dynamic-u8s8", False), ("float16", False)]
)
def test_where_no_table_can_be_the_nodes_stay_in_float_and_precise(method: str, channels: bool) -> None:
    source = network("beamish", channels=channels)
    made = quantized(source, method)
    assert count(made, "GatherElements") == 0
    assert count(made, "Exp") == 2
    between = {name for node in made.graph.node if node.op_type == "Exp" for name in node.output}
    assert not [node for node in made.graph.node if node.op_type == "QuantizeLinear" and between.intersection(node.input)]
    if method != "float16":
        assert sqnr_db(run(source), run(made)) > 25


def test_an_activation_that_is_kept_in_float_stays_its_nodes() -> None:
    source = network("mish")
    prepared = prepare(source, FILE)
    made = look_up(insert(prepared, min_max(prepared, [X], file=FILE), METHODS["u8s8"], source, keep_float=["c", "one.y"]))
    onnx.checker.check_model(made, full_check=True)
    assert count(made, "GatherElements") == 1
    assert count(made, "Exp") == 1
    assert sqnr_db(run(source), run(made)) > 25


def test_what_is_no_activation_is_not_taken_for_one() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "h"], ["s"], "s"),
        helper.make_node("Div", ["s", "r"], ["n"], "n"),  # a normalisation
        helper.make_node("Softplus", ["n"], ["p"], "p"),
        helper.make_node("Mul", ["n", "p"], ["m"], "m"),
        helper.make_node("Add", ["m", "p"], ["y"], "y"),
    ]
    constants = {"h": np.array(0.5, dtype=np.float32), "r": np.array(2, dtype=np.float32)}
    shape = ("n", 3, 8, 8)
    assert not pointwise(model_of([*nodes[:2], helper.make_node("Abs", ["n"], ["y"], "y")], constants, shape, shape))
    (found,) = pointwise(model_of(nodes, constants, shape, shape))
    assert (found.input, found.output) == ("x", "y")
    seen = model_of(nodes, constants, shape, shape)
    seen.graph.output.append(helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, list(shape)))
    assert not pointwise(seen)  # two results


def test_the_nodes_of_a_foreign_file_are_rewritten_before_quantization() -> None:
    prepared = prepare(network("beamish"), FILE)
    assert count(prepared, "Exp") == 2
    assert count(prepared, "Softplus") == 0
    assert {"one.y", "two.y"} <= {node.name for node in prepared.graph.node}
    plain = prepare(network("beamish"), FILE, activations="plain")
    assert count(plain, "Softplus") == 2
    assert np.allclose(run(prepared), run(plain), rtol=0, atol=1e-5)


def test_the_outlook_of_a_file_counts_what_a_table_replaces_as_integer(tmp_path: Path) -> None:
    assert outlook(save(network("beamish"), tmp_path / "a.onnx")).other_nodes == {}
    by_channel = outlook(save(network("beamish", channels=True), tmp_path / "b.onnx")).other_nodes
    assert by_channel == {"Min": 2, "Exp": 2, "Log": 2, "Tanh": 2}
