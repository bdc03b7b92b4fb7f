"""What is no ONNX file although it parses: text that is not UTF-8, tensors without the values that their shape promises."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.errors import ModelError
from gleanet.measure import read_model
from tests import tiny_onnx

KINDS = [
    kind
    for kind in TensorProto.DataType.values()
    if kind not in (TensorProto.UNDEFINED, TensorProto.STRING) and "FLOAT8E8" not in TensorProto.DataType.Name(kind)
]


def saved(path: Path, tensor: onnx.TensorProto) -> Path:
    model = tiny_onnx.convnet()
    tensor.name = "extra"
    model.graph.initializer.append(tensor)
    return tiny_onnx.save(model, path / "m.onnx")


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=[TensorProto.DataType.Name(kind) for kind in KINDS])
def test_every_type_that_onnx_writes_is_read(tmp_path: Path, kind: int, raw: bool) -> None:
    """An odd number of values: types of 4 bits lie in pairs."""
    tensor = helper.make_tensor("extra", kind, [3], np.array([0, 1, 0]))
    tensor = numpy_helper.from_array(numpy_helper.to_array(tensor)) if raw else tensor
    assert read_model(saved(tmp_path, tensor)).graph.initializer[-1].data_type == kind
    tensor.dims[0] = 30
    if kind in (TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT4):
        with pytest.raises(ModelError, match=r"tensor 'extra' of shape \[30\] does not hold its values"):
            read_model(saved(tmp_path, tensor))


def test_strings_scalars_and_nothing_are_tensors_too(tmp_path: Path) -> None:
    for tensor in (
        TensorProto(data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"\xff"]),  # bytes, not text: any will do
        numpy_helper.from_array(np.array(3.0, np.float32)),
        numpy_helper.from_array(np.zeros((0, 4), np.float32)),
    ):
        read_model(saved(tmp_path, tensor))


@pytest.mark.parametrize("dims", [[-1], [1 << 62, 1 << 62], [1 << 40]])
def test_shapes_that_no_file_holds_are_refused(tmp_path: Path, dims: list[int]) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32))
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(ModelError, match="does not hold its values"):
        read_model(saved(tmp_path, tensor))


@pytest.mark.parametrize("name", [b"c.relu", b"gleanet.classes", b"b.weight"])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    data = tiny_onnx.convnet(metadata={"gleanet.classes": "[]"}).SerializeToString()
    assert name in data
    (tmp_path / "m.onnx").write_bytes(data.replace(name, b"\xff" + name[1:]))
    with pytest.raises(ModelError, match="not UTF-8"):
        read_model(tmp_path / "m.onnx")


def test_an_input_larger_than_any_image_is_refused(tmp_path: Path) -> None:
    for side, fits in ((4096, True), (4097, False)):
        nodes = [helper.make_node("GlobalAveragePool", ["x"], ["g"]), helper.make_node("Flatten", ["g"], ["y"])]
        file = tiny_onnx.save(tiny_onnx.model_of(nodes, {}, ("n", 3, side, side), ("n", 3)), tmp_path / "m.onnx")
        if fits:
            read_model(file)
        else:
            with pytest.raises(ModelError, match=r"'x' is \[0, 3, 4097, 4097\], more than .*smaller images"):
                read_model(file)
