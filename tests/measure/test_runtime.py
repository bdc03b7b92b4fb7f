"""Files are read safely, and what cannot be used is refused in one line."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gleanet.core.errors import BadInput, ModelError
from gleanet.measure.runtime import open_session, read_model
from tests.tiny_onnx import convnet, model_of, save


def with_external(folder: Path, location: str) -> Path:
    """A model whose first weight claims to be stored at ``location``."""
    model = convnet()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    (folder / "inside.bin").write_bytes(data)
    return save(model, folder / "m.onnx")


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    path = with_external(tmp_path, "inside.bin")
    assert read_model(path).graph.initializer[0].raw_data == convnet().graph.initializer[0].raw_data
    assert open_session(path).run(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 4)


@pytest.mark.parametrize("location", ["../inside.bin", "/etc/hostname", "sub/../../x.bin", "", "C:\\x.bin", "..\\x.bin"])
def test_external_data_that_leaves_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "inside.bin").write_bytes(b"\0" * 864)
    path = with_external(tmp_path / "model", location)
    for read in (read_model, open_session):
        with pytest.raises(ModelError, match="must be a relative path inside") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["secret.bin", "model/secret.bin"])
def test_external_data_behind_a_link_is_refused(tmp_path: Path, where: str) -> None:
    """Also when it points inside: what a link points to can change after the check."""
    (tmp_path / "model").mkdir()
    path = with_external(tmp_path / "model", "link.bin")
    secret = tmp_path / where
    secret.write_bytes((tmp_path / "model" / "inside.bin").read_bytes())
    (tmp_path / "model" / "link.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="link"):
        open_session(path)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.bin is missing"):
        open_session(with_external(tmp_path, "gone.bin"))


def test_external_data_of_an_attribute_is_checked_too(tmp_path: Path) -> None:
    model = convnet()
    constant = helper.make_node("Constant", [], ["unused"], value=onnx.numpy_helper.from_array(np.zeros(4, np.float32)))
    tensor = constant.attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../x.bin")
    model.graph.node.insert(0, constant)
    with pytest.raises(ModelError, match="relative path"):
        read_model(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x89PNG\r\n\x1a\n" * 9, convnet().SerializeToString()[:-900]])
def test_files_that_are_not_onnx_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file") as caught:
        open_session(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        open_session(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        open_session(tmp_path)


def test_an_operator_the_runtime_does_not_know(tmp_path: Path) -> None:
    model = convnet()
    model.graph.node[1].op_type = "Unheard"
    with pytest.raises(ModelError, match=r"ONNX Runtime .* cannot run") as caught:
        open_session(save(model, tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)


def test_inputs_other_than_one_image_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    two = model_of([node], {}, (1, 2), (1, 2))
    two.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match="2 inputs"):
        open_session(save(two, tmp_path / "two.onnx"))
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    with pytest.raises(ModelError, match=r"tensor\(int64\)"):
        open_session(save(model_of([cast], {}, (1, 2), (1, 2), kind=TensorProto.INT64), tmp_path / "int.onnx"))


def test_open_image_size_must_be_given(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Flatten", ["x"], ["y"])], {}, ("n", 3, "h", "w"), ("n", "k"))
    session = open_session(save(model, tmp_path / "m.onnx"))
    assert session.image_shape((3, 5, 6)) == (3, 5, 6)
    with pytest.raises(BadInput, match="leaves the image size open"):
        session.image_shape()
