"""Other people's checkpoints: what loads, and what is refused with which words."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError
from gleanet.nn import build, load_weights
from gleanet.nn.weights import read_state


def equal(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


WRAPPERS: list[Callable[[dict[str, Tensor]], Any]] = [
    lambda state: state,
    lambda state: {"state_dict": state, "best_prec1": 91.7},
    lambda state: {"model": state, "epoch": 3},
    lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    lambda state: {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_state_dicts_load_in_every_wrapping(wrap: Callable[[dict[str, Tensor]], Any], tmp_path: Path) -> None:
    source, target = build("resnet8", seed=0), build("resnet8", seed=1)
    torch.save(wrap(source.state_dict()), tmp_path / "net.pt")
    assert not equal(source, target)
    assert load_weights(target, tmp_path / "net.pt") is target
    assert equal(source, target)


def test_safetensors_load_whatever_the_name_ends_in(tmp_path: Path) -> None:
    source, target = build("resnet8", seed=0), build("resnet8", seed=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "net.pt")
    load_weights(target, tmp_path / "net.pt")
    assert equal(source, target)


def test_another_network_names_the_first_entries_with_both_shapes(tmp_path: Path) -> None:
    torch.save(build("resnet20", seed=0).state_dict(), tmp_path / "net.pt")
    target = build("resnet8", seed=1, widths={"layer1.0.conv1": 3})
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, tmp_path / "net.pt")
    message = str(caught.value)
    assert "layer1.0.conv1.weight is [16, 16, 3, 3] there and [3, 16, 3, 3] in the network" in message
    assert "and 75 more" in message
    assert "\n" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_missing_entries_are_named(tmp_path: Path) -> None:
    state = build("resnet8", seed=0).state_dict()
    del state["bn1.weight"]
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"bn1.weight is missing there and \[16\] in the network"):
        load_weights(build("resnet8"), tmp_path / "net.pt")


def test_another_number_of_classes_says_so(tmp_path: Path) -> None:
    torch.save(build("resnet8", seed=0, num_classes=100).state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"trained for 100 classes, the network has 10 \(build it with num_classes=100\)"):
        load_weights(build("resnet8"), tmp_path / "net.pt")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_a_pickle_with_code_is_not_executed(protocol: int | None, tmp_path: Path) -> None:
    trap, file = tmp_path / "sprung", tmp_path / "net.pt"
    if protocol is None:
        torch.save({"state_dict": Trap(trap)}, file)
    else:
        file.write_bytes(pickle.dumps({"state_dict": Trap(trap)}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*was not executed") as caught:
        load_weights(build("resnet8"), file)
    assert not trap.exists()
    assert "\n" not in str(caught.value)


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"more than tensors \(torch.nn.modules.linear.Linear\)"):
        load_weights(build("resnet8"), tmp_path / "net.pt")


@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 100, -1000])
def test_truncated_files_are_one_line(kind: str, kept: int, tmp_path: Path) -> None:
    state, file = build("resnet8", seed=0).state_dict(), tmp_path / "net.pt"
    if kind == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "torch")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"net.pt (is damaged|is not a checkpoint, or it is truncated)") as caught:
        load_weights(build("resnet8"), file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello world" * 50, b"\x80\x02}q\x00.", b"\x80\x02]q\x00.", b"\x89PNG" + bytes(100)])
def test_other_files_are_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_weights(build("resnet8"), tmp_path / "net.pt")
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*none.pt: No such file"):
        load_weights(build("resnet8"), tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_weights(build("resnet8"), tmp_path)


def test_entries_that_are_not_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2), "epochs": 3}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="entry 'epochs' is int"):
        load_weights(build("resnet8"), tmp_path / "net.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    state = build("resnet8", seed=0).state_dict()
    state["layer2.0.bn1.bias"][3] = value
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"layer2\.0\.bn1\.bias holds values that are not finite"):
        load_weights(build("resnet8"), tmp_path / "net.pt")


def test_a_tensor_larger_than_its_file_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    """A view of one value may say that it has a million million of them."""
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "big.pt")
    with pytest.raises(CheckpointError, match=r"w claims 4,398,046,511,104 bytes .* holds 4 of it"):
        read_state(tmp_path / "big.pt")
    torch.save({"w": torch.ones(1).expand(1000)}, tmp_path / "small.pt")  # a buffer that was expanded
    assert torch.equal(read_state(tmp_path / "small.pt")["w"], torch.ones(1000))
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(CheckpointError, match="no plain tensor"):
        read_state(tmp_path / "sparse.pt")


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16])
def test_small_floats_are_looked_through_too(tmp_path: Path, kind: torch.dtype) -> None:
    torch.save({"w": torch.ones(3).to(kind)}, tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt")["w"].dtype == kind
    torch.save({"w": torch.full((3,), float("nan")).to(kind)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not finite"):
        read_state(tmp_path / "w.pt")
