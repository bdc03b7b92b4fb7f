"""The fast form of Mish-like gates is the function itself over all of float32, whichever way a file writes it; everything else stays."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gleanet.measure.activations import rewrite_activations

FEW = np.finfo(np.float32).eps * 4
SPREAD = np.geomspace(1e-30, 1e4, 20_000)
X = np.concatenate([np.linspace(-120, 120, 200_001), SPREAD, -SPREAD, [0, -0.0, 3e38, -3e38]]).astype(np.float32)

FORMS = {
    "Softplus": [("Softplus", ["u"], "s")],
    "Log": [("Exp", ["u"], "e"), ("Add", ["one", "e"], "w"), ("Log", ["w"], "s")],
    "Where": [("Softplus", ["u"], "p"), ("Greater", ["u", "twenty"], "g"), ("Where", ["g", "u", "p"], "s")],
}


def model(nodes: list[tuple[str, list[str], str]], opset: int = 18, **constants: object) -> onnx.ModelProto:
    """From "x" [n, 2, w] to "y"."""
    given = {"one": 1, "twenty": 20, **constants}
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, [output], output) for kind, inputs, output in nodes],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "w"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, "w"])],
            [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in given.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def beamish(form: str, alpha: object, beta: object) -> onnx.ModelProto:
    """x * tanh(beta * softplus(alpha * x)), the gate as output "gate" too."""
    nodes = [("Mul", ["x", "alpha"], "u"), *FORMS[form], ("Mul", ["beta", "s"], "m"), ("Tanh", ["m"], "gate"), ("Mul", ["x", "gate"], "y")]
    made = model(nodes, alpha=alpha, beta=beta)
    made.graph.output.append(helper.make_tensor_value_info("gate", TensorProto.FLOAT, ["n", 2, "w"]))
    return made


def run(made: onnx.ModelProto, x: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    onnx.checker.check_model(made, full_check=True)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value, dtype=np.float64) for value in session.run(None, {"x": x})]


def exact(x: NDArray[np.float32], alpha: object, beta: object) -> NDArray[np.float64]:
    """The gate in float64, of the factors as float32 holds them; u is rounded as the file rounds it."""
    with np.errstate(over="ignore"):
        u = (np.asarray(alpha, dtype=np.float32) * x).astype(np.float64)
    return np.tanh(np.asarray(beta, dtype=np.float32).astype(np.float64) * np.logaddexp(0, u))


def kinds(made: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in made.graph.node}


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.13, 0.3, 0.5, 1, 1.3, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 7.3, 100])
@pytest.mark.parametrize("alpha", [0.7, 1])
def test_the_fast_form_is_the_function_over_all_of_float32(alpha: float, beta: float) -> None:
    made = beamish("Softplus", alpha, beta)
    assert rewrite_activations(made) == 1
    assert not kinds(made) & {"Softplus", "Pow"}
    x = np.stack([X, X])[None]
    y, gate = run(made, x)
    wanted = exact(x, alpha, beta)
    assert np.isfinite(y).all()
    assert np.abs(gate - wanted).max() <= 5e-7
    lively = np.abs(x) <= 30
    assert np.abs(y - x * wanted)[lively].max() <= 1e-5
    if 2 * beta in range(2, 9):  # products alone: precise relative to the value, however small, and 1 where 1 is nearest
        normal = wanted > 1e-36
        assert (np.abs(gate - wanted)[normal] / wanted[normal]).max() <= FEW
        assert (gate[wanted > 1 - 1e-9] == 1).all()


@pytest.mark.parametrize("beta", [(0.05, 6.0), (1.0, 1.5), (0.5, 3.3)])
def test_factors_for_each_channel(beta: tuple[float, float]) -> None:
    alpha, factors = np.array([[[0.8], [1.4]]]), np.array(beta).reshape(1, 2, 1)
    made = beamish("Where", alpha, factors)
    assert rewrite_activations(made) == 1
    x = np.stack([X, X])[None]
    y, gate = run(made, x)
    assert np.isfinite(y).all()
    assert np.abs(gate - exact(x, alpha, factors)).max() <= 5e-7


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_softplus_is_found_and_names_stay(form: str) -> None:
    made = beamish(form, 1, 1.5)
    before = run(made, np.ones((1, 2, 3), dtype=np.float32))
    assert rewrite_activations(made) == 1
    assert not kinds(made) & {"Softplus", "Tanh", "Where", "Greater", "Log"}
    assert {"u", "gate", "y"} <= {node.name for node in made.graph.node}
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    assert {tensor.name for tensor in made.graph.initializer} <= {name for node in made.graph.node for name in node.input}
    for old, new in zip(before, run(made, np.ones((1, 2, 3), dtype=np.float32)), strict=True):
        assert np.allclose(old, new, rtol=0, atol=1e-6)
    assert rewrite_activations(made) == 0


def test_the_operator_mish() -> None:
    made = model([("Mish", ["x"], "y")])
    assert rewrite_activations(made) == 1
    assert kinds(made) == {"Min", "Exp", "Add", "Mul", "Div"}
    x = np.stack([X, X])[None]
    (y,) = run(made, x)
    error = np.abs(y - x * exact(x, 1, 1))
    assert error[np.abs(x) <= 8].max() <= 1e-6
    assert (error <= 2 * FEW * np.abs(x)).all()


def test_a_softplus_that_others_read_stays_for_them() -> None:
    made = model([("Softplus", ["x"], "s"), ("Tanh", ["s"], "t"), ("Mul", ["x", "t"], "m"), ("Add", ["m", "s"], "y")])
    x = np.linspace(-9, 9, 40, dtype=np.float32).reshape(1, 2, 20)
    (before,) = run(made, x)
    assert rewrite_activations(made) == 1
    assert "Softplus" in kinds(made)
    assert np.allclose(run(made, x)[0], before, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Softplus", ["x"], "y")],
        [("Tanh", ["x"], "y")],
        [("Softplus", ["x"], "s"), ("Mul", ["s", "x"], "m"), ("Tanh", ["m"], "y")],  # beta is no constant
        [("Softplus", ["x"], "s"), ("Mul", ["s", "negative"], "m"), ("Tanh", ["m"], "y")],
        [("Exp", ["x"], "e"), ("Add", ["e", "twenty"], "w"), ("Log", ["w"], "s"), ("Tanh", ["s"], "y")],
        [("Softplus", ["x"], "s"), ("Greater", ["x", "one"], "g"), ("Where", ["g", "x", "s"], "w"), ("Tanh", ["w"], "y")],  # 1 is too early
    ],
)
def test_what_is_not_such_a_gate_is_left_alone(nodes: list[tuple[str, list[str], str]]) -> None:
    made = model(nodes, negative=-1)
    before = made.SerializeToString()
    assert rewrite_activations(made) == 0
    assert made.SerializeToString() == before


def test_an_old_file_is_left_alone_where_operators_do_not_broadcast() -> None:
    nodes = [("Softplus", ["x"], "s"), ("Tanh", ["s"], "t"), ("Mul", ["x", "t"], "y")]
    assert rewrite_activations(model(nodes, opset=7)) == 0
    made = model(nodes, opset=8)
    assert rewrite_activations(made) == 1
    run(made, np.ones((1, 2, 3), dtype=np.float32))
