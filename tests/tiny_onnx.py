"""Small ONNX classifiers made node by node, independent of our exporter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def convnet(
    *,
    batch: int | str = "n",
    size: int = 8,
    channels: int = 8,
    classes: int = 4,
    pixels: bool = False,
    opset: int = 18,
    outlier: float = 1.0,
    residual: bool = True,
    metadata: dict[str, str] | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """conv3x3-relu-conv3x3-add-relu-conv3x3 stride 2-relu-pool-flatten-gemm; ``pixels``: uint8 input, divided by 255 in the graph.

    ``residual`` False leaves out the addition.
    ``outlier`` > 1: the first channel of the first convolution is that much smaller, and the one weight of the second that leads
    from it to its first output channel that much larger: wild weights, tame activations.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)

    a, b, c, d = (
        normal(channels, 3, 3, 3),
        normal(channels, channels, 3, 3),
        normal(2 * channels, channels, 3, 3),
        normal(classes, 2 * channels),
    )
    a[0] /= outlier
    b[0, 0] *= outlier
    weights = {"a.weight": a, "b.weight": b, "c.weight": c, "d.weight": d}
    weights |= {f"{name[0]}.bias": (0.1 * rng.standard_normal(len(w))).astype(np.float32) for name, w in weights.items()}
    weights["a.bias"][0] /= outlier
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], name="a", **same),
        helper.make_node("Relu", ["a"], ["a.relu"], name="a.relu"),
        helper.make_node("Conv", ["a.relu", "b.weight", "b.bias"], ["b"], name="b", **same),
    ]
    if residual:
        nodes.append(helper.make_node("Add", ["b", "a.relu"], ["b.add"], name="b.add"))
    nodes += [
        helper.make_node("Relu", ["b.add" if residual else "b"], ["b.relu"], name="b.relu"),
        helper.make_node("Conv", ["b.relu", "c.weight", "c.bias"], ["c"], name="c", strides=[2, 2], **same),
        helper.make_node("Relu", ["c"], ["c.relu"], name="c.relu"),
        helper.make_node("GlobalAveragePool", ["c.relu"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "d.weight", "d.bias"], ["y"], name="d", transB=1),
    ]
    if pixels:
        weights["p.scale"] = np.array(1 / 255, dtype=np.float32)
        nodes = [
            helper.make_node("Cast", ["x"], ["p.cast"], name="p.cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", ["p.cast", "p.scale"], ["p.out"], name="p.out"),
            *nodes,
        ]
        nodes[2].input[0] = "p.out"
    kind = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    return model_of(nodes, weights, (batch, 3, size, size), (batch, classes), kind=kind, opset=opset, metadata=metadata)


def mobile(*, activation: str = "Relu", channels: int = 8, seed: int = 0) -> onnx.ModelProto:
    """conv1x1 "a", depthwise conv3x3 "b", grouped conv1x1 "c", max-pool, flatten, gemm "d" and matmul "e", an activation behind a to d.

    The channels of neighbours have very different ranges, up to 1:100, with tame activations for "Relu".
    """
    rng = np.random.default_rng(seed)
    shapes = {
        "a": (channels, 3, 1, 1),
        "b": (channels, 1, 3, 3),
        "c": (channels, channels // 2, 1, 1),
        "d": (channels * 16, 12),
        "e": (12, 4),
    }
    weights = {f"{name}.weight": (rng.standard_normal(shape) / 2).astype(np.float32) for name, shape in shapes.items()}
    for name, count in (("a", channels), ("b", channels), ("c", channels), ("d", 12)):
        weights[f"{name}.bias"] = (0.1 * rng.standard_normal(count)).astype(np.float32)
    wild = 10 ** rng.uniform(-1, 1, channels).astype(np.float32)
    weights["a.weight"] *= wild[:, None, None, None]
    weights["a.bias"] *= wild
    weights["b.weight"] /= wild[:, None, None, None]
    weights["d.weight"] /= np.float32(8)
    nodes: list[onnx.NodeProto] = []
    last = "x"
    for name, kind, attributes in (
        ("a", "Conv", {}),
        ("b", "Conv", {"group": channels, "pads": [1, 1, 1, 1]}),
        ("c", "Conv", {"group": 2}),
        ("pool", "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("flat", "Flatten", {}),
        ("d", "Gemm", {}),
        ("e", "MatMul", {}),
    ):
        constants = [f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in weights]
        nodes.append(helper.make_node(kind, [last, *constants], ["y" if name == "e" else name], name=name, **attributes))
        last = name
        if f"{name}.bias" in weights:
            limits = ["low", "high"] if activation == "Clip" else []
            nodes.append(helper.make_node(activation, [name, *limits], [f"{name}.act"], name=f"{name}.act"))
            last = f"{name}.act"
    if activation == "Clip":
        weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    return model_of(nodes, weights, ("n", 3, 8, 8), ("n", 4))


def model_of(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, NDArray[Any]],
    input_shape: Sequence[int | str],
    output_shape: Sequence[int | str],
    *,
    kind: int = TensorProto.FLOAT,
    opset: int = 18,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """A model with input "x" and output "y"."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", kind, list(input_shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(output_shape))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def floats(n: int, size: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """[n, 3, size, size] standard normal."""
    return np.random.default_rng(seed).standard_normal((n, 3, size, size)).astype(np.float32)
