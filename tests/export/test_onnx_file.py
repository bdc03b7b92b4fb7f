"""The exported file computes what the network computes, or does not exist."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from gleanet.core.errors import ExportError, ModelError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.export import export_onnx
from gleanet.nn import build, replace_activations
from gleanet.nn.activations import activation
from tests.tiny import chain, images, residual

PREPROCESS = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"input": x})[0])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual net with metadata; the shared file of most tests below."""
    path = tmp_path_factory.mktemp("export") / "net.onnx"
    result = export_onnx(residual(), images(1), path, preprocess=PREPROCESS, classes=("a", "b", "ü", "d"), check=images(33).numpy())
    assert result.path == path
    assert 0 < result.max_abs_diff <= 1e-4
    return path


def test_logits_equal_torch_at_any_batch_size(exported: Path) -> None:
    for n in (1, 3, 17):
        x = images(n, seed=n)
        with torch.no_grad():
            assert np.abs(run(exported, x.numpy()) - residual()(x).numpy()).max() <= 1e-4


def test_file_is_one_valid_small_file_that_says_what_it_is(exported: Path) -> None:
    model = onnx.load(str(exported))
    onnx.checker.check_model(model, full_check=True)
    assert [p.name for p in exported.parent.iterdir()] == [exported.name]
    assert model.producer_name == "gleanet"
    assert (model.opset_import[0].version, len(model.opset_import), model.ir_version) == (18, 1, 8)
    assert {e.key: e.value for e in model.metadata_props} == {
        "gleanet.classes": '["a", "b", "ü", "d"]',
        "gleanet.preprocess": '{"layout": "NCHW", "color": "RGB", "range": [0.0, 1.0], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}',
    }
    weights = sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    assert exported.stat().st_size - weights < 3000


def test_nodes_and_weights_are_named_by_module_and_the_graph_is_clean(exported: Path) -> None:
    graph = onnx.load(str(exported)).graph
    kinds = {node.name: node.op_type for node in graph.node}
    assert kinds == {
        "conv1": "Conv",
        "act1": "Relu",
        "conv2": "Conv",
        "act2": "Relu",
        "conv3": "Conv",
        "shortcut": "Conv",
        "add": "Add",
        "act3": "Relu",
        "pool": "GlobalAveragePool",
        "flatten": "Flatten",
        "linear": "Gemm",
    }
    names = {tensor.name for tensor in graph.initializer}
    assert names == {f"{layer}.{kind}" for layer in ("conv1", "conv2", "conv3", "linear") for kind in ("weight", "bias")} | {
        "shortcut.weight"
    }


def test_the_same_network_gives_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export_onnx(residual(), images(2), again, preprocess=PREPROCESS, classes=("a", "b", "ü", "d"))
    assert again.read_bytes() == exported.read_bytes()


def test_uint8_input_equals_float_input_on_the_same_pixels(exported: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), dtype=np.uint8)
    path = tmp_path / "pixels.onnx"
    export_onnx(residual(), images(1), path, input="uint8", preprocess=PREPROCESS, check=pixels)
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    normalised = ((pixels / 255.0 - mean) / std).astype(np.float32)
    assert np.abs(run(path, pixels) - run(exported, normalised)).max() <= 2e-5
    assert not [e for e in onnx.load(str(path)).metadata_props if e.key == "gleanet.preprocess"]


def test_chain_and_architecture_record(tmp_path: Path) -> None:
    """A built network brings its own metadata; a chain keeps its numbered names."""
    net = build("resnet8", activation="silu", widths={"layer2.0.conv1": 3}, seed=0)
    export_onnx(net, images(1, size=16), tmp_path / "r.onnx")
    model = onnx.load(str(tmp_path / "r.onnx"))
    assert [e.key for e in model.metadata_props] == ["gleanet.preprocess"]
    by_name = {t.name: tuple(t.dims) for t in model.graph.initializer}
    assert by_name["layer2.0.conv1.weight"] == (3, 16, 3, 3)
    export_onnx(chain(), images(1), tmp_path / "c.onnx")
    assert [n.name for n in onnx.load(str(tmp_path / "c.onnx")).graph.node] == ["0", "2", "3", "4", "6", "7", "8", "9"]


def test_training_mode_and_weights_of_the_original_stay(tmp_path: Path) -> None:
    net = residual().train()
    before = [p.clone() for p in net.parameters()]
    export_onnx(net, images(2), tmp_path / "n.onnx")
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


class Noisy(nn.Module):
    """Different every time, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = chain()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits + 0.01 * torch.rand_like(logits)


def test_a_mismatch_leaves_no_file_and_the_old_one_alone(tmp_path: Path) -> None:
    old = tmp_path / "old.onnx"
    old.write_bytes(b"precious")
    with pytest.raises(ExportError, match=r"differ from torch's by .* \(limit 0.0001\)"):
        export_onnx(Noisy(), images(4), old)
    assert old.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["old.onnx"]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2] if x.sum() > 0 else x.flatten(1)[:, :3]


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torch cannot export Branching") as caught:
        export_onnx(Branching(), images(2), tmp_path / "b.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="expected logits"):
        export_onnx(nn.Conv2d(3, 4, 1), images(2), tmp_path / "b.onnx")
    with pytest.raises(ModelError, match="does not accept"):
        export_onnx(chain(), images(2, size=16), tmp_path / "b.onnx")
    with pytest.raises(SettingsError, match="normalisation"):
        export_onnx(chain(), images(2), tmp_path / "b.onnx", input="uint8")
    with pytest.raises(SettingsError, match="check images must be float32"):
        export_onnx(chain(), images(2), tmp_path / "b.onnx", check=np.zeros((1, 3, 8, 8), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mish", "beamish(alpha=0.8,beta=1.3)", "beamish-learnable"])
def test_mish_like_activations_are_exported_with_exp_and_equal_torch(name: str, tmp_path: Path) -> None:
    net = replace_activations(chain(), activation(name)())
    x = 3 * images(9)
    with torch.no_grad():
        expected = net(x).numpy()
    path = export_onnx(net, x, tmp_path / "net.onnx").path
    assert np.abs(run(path, x.numpy()) - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert kinds.count("Exp") == 2
    assert not {"Softplus", "Mish"}.intersection(kinds)


def test_the_plain_form_of_activations_can_be_had(tmp_path: Path) -> None:
    net = replace_activations(chain(), activation("beamish")())
    path = export_onnx(net, images(2), tmp_path / "plain.onnx", activations="plain").path
    assert [node.op_type for node in onnx.load(str(path)).graph.node].count("Softplus") == 2
    with pytest.raises(SettingsError, match="fast or plain, got 'quick'"):
        export_onnx(net, images(2), path, activations="quick")  # type: ignore[arg-type]
