"""Training on a folder that is streamed: cut short in the middle of an epoch, it ends with the bits of the uninterrupted training."""

from pathlib import Path

import pytest
from torch import nn

from gleanet.core.errors import CheckpointError, DataError
from gleanet.core.records import Curve, Preprocess
from gleanet.data import Dataset, load
from gleanet.data.stream import Stream
from gleanet.train import Recipe, fit
from tests.data.tiny import photographs
from tests.train.tiny import net, same

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05)  # 6 steps an epoch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streamed")
    photographs(root / "train", ("a", "b", "c", "d"), 12, sides=(10, 30))
    photographs(root / "val", ("a", "b", "c", "d"), 2, sides=(10, 30), seed=1)
    return root


def trained(data: Dataset, checkpoint: Path | None = None, stop: int | None = None) -> tuple[nn.Module, Curve]:
    def after_step(step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt

    preprocess = Preprocess()
    model, evaluate = net(), data.test
    return fit(model, data.train, RECIPE, preprocess=preprocess, seed=5, after_step=after_step, evaluate=evaluate, checkpoint=checkpoint)


@pytest.mark.parametrize("stop", [2, 6, 9])
def test_a_training_cut_short_in_an_epoch_ends_with_the_same_bits(
    folder: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(str(folder), usual_size=8)
    assert isinstance(data.train.images, Stream)
    whole, curve = trained(data)
    state = tmp_path / "train.state"
    with pytest.raises(KeyboardInterrupt):
        trained(data, state, stop)
    monkeypatch.setenv("GLEANET_WORKERS", "7")
    again, other_curve = trained(load(str(folder), usual_size=8), state)
    assert same(again, whole)
    assert other_curve == curve


def test_a_state_belongs_to_its_files_and_their_size(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "train.state"
    with pytest.raises(KeyboardInterrupt):
        trained(load(str(folder), usual_size=8), state, 2)
    photographs(tmp_path / "more" / "train", ("a", "b", "c", "d"), 12, sides=(10, 30))
    photographs(tmp_path / "more" / "val", ("a", "b", "c", "d"), 2, sides=(10, 30), seed=1)
    more = tmp_path / "more" / "train" / "a" / "0003.JPEG"
    more.rename(more.with_name("0003b.JPEG"))
    with pytest.raises(CheckpointError, match=r"another training \(data:"):
        trained(load(str(tmp_path / "more"), usual_size=8), state)


def test_a_file_that_breaks_in_the_middle_is_named(folder: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "train", ("a", "b", "c", "d"), 12, sides=(10, 30))
    photographs(tmp_path / "val", ("a", "b", "c", "d"), 2, sides=(10, 30), seed=1)
    (tmp_path / "train" / "c" / "0007.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match=r"c/0007\.JPEG is not an image"):
        trained(load(str(tmp_path), usual_size=8))
