"""The network as an ONNX file, for runtimes that only infer. Batch free; input ``x`` [N, 3, 32, 32], output ``logits`` [N, 10]."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.files import write_bytes
from gleanet.frameworks.spec import Weights

_OPSET, _IR = 13, 8  # old enough for any runtime of today


def write_onnx(weights: Weights, path: Path, dtype: str = "float32") -> None:
    """Write the network with these weights.

    Raises:
        StoreError: the file cannot be written.
    """
    kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
    same: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "conv1.w", "conv1.b"], ["a"], **same),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], **pool),
        helper.make_node("Conv", ["c", "conv2.w", "conv2.b"], ["d"], **same),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("MaxPool", ["e"], ["f"], **pool),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "fc1.w", "fc1.b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "fc2.w", "fc2.b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "comparison",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", kind, ["N", 10])],
        [numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())
