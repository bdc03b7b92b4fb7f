"""Our own files: whole, equal, deterministic, and never a way to run code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from gleanet.core.errors import CheckpointError, ModelError, StoreError
from gleanet.nn import (
    BeaMish,
    architecture_of,
    build,
    check_classes,
    is_checkpoint,
    load,
    read_header,
    replace_activations,
    save,
    set_architecture,
)

OWN = "tests.nn.own:chain"


def images(side: int = 16) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def built() -> list[nn.Module]:
    plain = build("resnet8", seed=0)
    mixed = replace_activations(replace_activations(plain, "mish"), BeaMish(0.7, 2.0), paths=["layer1.0.act1"])
    return [
        plain,
        build("resnet20", seed=1, num_classes=7, activation="hardswish", widths={"layer1.0.conv1": 5, "layer3.2.conv1": 24}),
        mixed,
        replace_activations(plain, BeaMish(learnable=True)),
        plain.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    ]


@pytest.mark.parametrize("index", range(5))
def test_what_is_loaded_equals_what_was_saved(index: int, tmp_path: Path) -> None:
    net = built()[index].eval()
    record = replace(architecture_of(net), classes=("a", "b"))
    set_architecture(net, record)
    save(net, tmp_path / "net.gleanet", history={"epochs": 3, "plan": [1, 2]})
    again = load(tmp_path / "net.gleanet")
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    torch.testing.assert_close(again(images()), net(images()), rtol=1e-5, atol=1e-5)  # layouts may differ, so not to the bit
    assert not again.training
    assert replace(architecture_of(again), activations={}) == record
    assert read_header(tmp_path / "net.gleanet").history == {"epochs": 3, "plan": [1, 2]}
    save(again, tmp_path / "twice.gleanet", history={"epochs": 3, "plan": [1, 2]})
    assert (tmp_path / "twice.gleanet").read_bytes() == (tmp_path / "net.gleanet").read_bytes()


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    widths = {"layer1.0.conv1": 5, "layer2.0.conv1": 9}
    save(build("resnet8", seed=0, widths=widths), tmp_path / "a.gleanet")
    save(build("resnet8", seed=0, widths=dict(reversed(widths.items()))), tmp_path / "b.gleanet")
    assert (tmp_path / "a.gleanet").read_bytes() == (tmp_path / "b.gleanet").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gleanet", "b.gleanet"]


def test_a_failed_save_leaves_the_earlier_file(tmp_path: Path) -> None:
    net = build("resnet8", seed=0)
    save(net, tmp_path / "net.gleanet")
    before = (tmp_path / "net.gleanet").read_bytes()
    net.get_submodule("layer1.0").conv1 = nn.Conv2d(16, 8, 3)
    with pytest.raises(ModelError, match=r"record \(resnet8\) does not describe .*layer1\.0\.conv1 is \(16, 8, .*would be .*padding"):
        save(net, tmp_path / "net.gleanet")
    net.get_submodule("layer1.0").act1 = nn.Tanh()
    with pytest.raises(ModelError, match=r"layer1\.0\.act1 is Tanh, and rebuilt it would be ReLU"):
        save(net, tmp_path / "net.gleanet")
    assert (tmp_path / "net.gleanet").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        save(build("resnet8"), tmp_path / "file" / "net.gleanet")


def test_build_takes_our_file_as_name_and_as_weights(tmp_path: Path) -> None:
    net = build("resnet8", seed=0, num_classes=7, widths={"layer1.0.conv1": 5})
    file = tmp_path / "net.gleanet"
    save(net, file)
    for again in (build(file), build(str(file)), build("resnet8", weights=file), build("resnet8", weights=file, num_classes=7)):
        assert torch.equal(again(images()), net.eval()(images()))
        assert architecture_of(again).widths == {"layer1.0.conv1": 5}
    assert isinstance(build(file, activation="mish").get_submodule("act"), nn.Mish)
    with pytest.raises(CheckpointError, match="holds a resnet8, not a resnet20"):
        build("resnet20", weights=file)
    with pytest.raises(ModelError, match="tells 7 classes apart, 10 are asked for"):
        build(file, num_classes=10)


def rewrite(file: Path, **changes: Any) -> None:
    """Change the architecture record of a checkpoint, as somebody who made the file by hand could."""
    state, header = safetensors.torch.load_file(file), read_header(file)
    record = json.loads(json.dumps({"factory": header.architecture.factory, "kwargs": header.architecture.kwargs}))
    safetensors.torch.save_file(state, file, metadata={"gleanet": json.dumps({"architecture": record | changes})})


@pytest.mark.parametrize("factory", ["os:mkdir", "tests.nn.trap:spring", "tests.nn.own:chain"])
def test_a_file_alone_never_runs_code(factory: str, tmp_path: Path) -> None:
    file = tmp_path / "net.gleanet"
    save(build("resnet8", seed=0), file)
    rewrite(file, factory=factory, kwargs={"path": str(tmp_path / "sprung")})
    with pytest.raises(CheckpointError, match="is not a built-in network and was not run"):
        load(file)
    with pytest.raises(CheckpointError, match="is not a built-in network and was not run"):
        build(file)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(CheckpointError, match=f"holds a {factory}, not a resnet8"):
        build("resnet8", weights=file)


def test_strange_records_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "net.gleanet"
    for changes, message in (
        ({"factory": 3}, "not a Header record"),
        ({"kwargs": {"colour": 3}}, "does not take the recorded arguments"),
        ({"activations": {"nowhere.act": {"name": "mish"}}}, "activation at 'nowhere.act'"),
        ({"widths": {"layer1.0.conv1": 3}}, "does not fit this network"),
    ):
        save(build("resnet8", seed=0), file)
        rewrite(file, **changes)
        with pytest.raises(CheckpointError, match=message) as caught:
            load(file)
        assert "\n" not in str(caught.value)


def test_a_newer_format_says_upgrade(tmp_path: Path) -> None:
    save(build("resnet8", seed=0), tmp_path / "net.gleanet")
    state = safetensors.torch.load_file(tmp_path / "net.gleanet")
    header = json.dumps({"architecture": {"factory": "resnet8"}, "format_version": 99})
    safetensors.torch.save_file(state, tmp_path / "net.gleanet", metadata={"gleanet": header})
    with pytest.raises(CheckpointError, match="newer gleanet"):
        load(tmp_path / "net.gleanet")


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    net = build("resnet8", seed=0)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    save(net, tmp_path / "net.gleanet")
    assert [is_checkpoint(tmp_path / f"net.{end}") for end in ("pt", "safetensors", "gleanet", "none")] == [False, False, True, False]
    with pytest.raises(CheckpointError, match="not a checkpoint of ours"):
        load(tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="no architecture record"):
        load(tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="No such file"):
        load(tmp_path / "none.gleanet")
    whole = (tmp_path / "net.gleanet").read_bytes()
    (tmp_path / "cut.gleanet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "cut.gleanet")


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    net = build("resnet8", seed=0)
    with torch.no_grad():
        net.get_parameter("linear.bias")[0] = float("nan")
    save(net, tmp_path / "net.gleanet")
    with pytest.raises(CheckpointError, match=r"linear\.bias holds values that are not finite"):
        load(tmp_path / "net.gleanet")


def test_a_users_own_network_goes_round_when_named(tmp_path: Path) -> None:
    net = replace_activations(build(OWN, num_classes=6), "mish", paths=["act1"]).eval()
    assert architecture_of(net).kwargs == {"num_classes": 6}
    save(net, tmp_path / "net.gleanet")
    for again in (build(OWN, weights=tmp_path / "net.gleanet"), load(tmp_path / "net.gleanet", factory=OWN)):
        assert torch.equal(again(images(8)), net(images(8)))


def test_a_narrowed_network_of_the_user_is_narrow_again(tmp_path: Path) -> None:
    narrow = build("tests.nn.own:narrow_chain").eval()
    set_architecture(narrow, replace(architecture_of(narrow), factory=OWN, widths={"conv1": 5}))
    save(narrow, tmp_path / "net.gleanet")
    again = build(OWN, weights=tmp_path / "net.gleanet")
    assert torch.equal(again(images(8)), narrow(images(8)))
    conv, norm, linear = again.get_submodule("conv2"), again.get_submodule("bn2"), again.get_submodule("linear")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(linear, nn.Linear)
    assert (conv.groups, conv.in_channels, conv.out_channels, norm.num_features, linear.in_features) == (5, 5, 5, 5, 320)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "unknown network 'resnet21': choose one of resnet8, resnet20"),
        ("nowhere.gleanet", "cannot read checkpoint nowhere.gleanet: No such file"),
        ("tests.nn.nowhere:net", "cannot import 'tests.nn.nowhere'"),
        ("tests.nn.own:nothing", "tests.nn.own has no function 'nothing'"),
        ("tests.nn.own:not_a_network", "returned int, expected a torch.nn.Module"),
        ("tests.nn.own:broken", "tests.nn.own:broken failed: ValueError: first line$"),
    ],
)
def test_names_that_cannot_be_built_are_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name)


def test_the_current_directory_is_importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet_of_test.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert build("mynet_of_test:make")(torch.zeros(1, 3, 2, 2)).shape == (1, 3)


def test_a_wrong_number_of_classes_in_the_users_network() -> None:
    net = build(OWN, num_classes=6)
    set_architecture(net, replace(architecture_of(net), input_shape=(3, 8, 8)))
    check_classes(net, 6)
    with pytest.raises(ModelError, match="tells 6 classes apart, 10 are asked for"):
        check_classes(net, 10)
