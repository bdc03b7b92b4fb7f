"""Training: it learns, to the same bits every time, whether or not it was interrupted."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from gleanet.core.errors import CheckpointError, GleanetError, ModelError
from gleanet.core.interrupt import Deferred
from gleanet.core.progress import Advance
from gleanet.core.records import Preprocess
from gleanet.train import Recipe, fit, loop
from tests.train.tiny import images, net, same

RECIPE = Recipe(epochs=2.5, batch_size=20, lr=0.05, flip=False, augment=False)
PIXELS = Preprocess()
STEPS = 12  # round(2.5 * ceil(96 / 20))


def test_it_learns() -> None:
    model, curve = fit(
        net(), images(), Recipe(6, batch_size=16, lr=0.1, flip=False, augment=False), preprocess=PIXELS, seed=0, evaluate=images(200, 1)
    )
    assert curve.points[-1].accuracy is not None
    assert curve.points[-1].accuracy > 0.9
    assert curve.points[-1].loss < 0.5 * curve.points[0].loss
    assert model.training


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(1, batch_size=20, augment=True)], ids=["given lr", "range test"])
def test_two_runs_are_equal_to_the_bit_and_leave_the_global_generator_alone(recipe: Recipe) -> None:
    before = torch.get_rng_state()
    first, curve = fit(net(dropout=0.3), images(), recipe, preprocess=PIXELS, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    second, again = fit(net(dropout=0.3), images(), recipe, preprocess=PIXELS, seed=3)
    other, _ = fit(net(dropout=0.3), images(), recipe, preprocess=PIXELS, seed=4)
    assert same(first, second)
    assert curve == again
    assert not same(first, other)


class Killed(Exception):
    """Stands for a process that dies: nothing is saved on the way out."""


def stop_at(step: int, error: type[BaseException]) -> Callable[[int], None]:
    def hook(done: int) -> None:
        if done == step:
            raise error

    return hook


@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed])
@pytest.mark.parametrize("at", [1, 5, 7, STEPS])
def test_a_resumed_training_equals_an_uninterrupted_one(at: int, error: type[BaseException], tmp_path: Path) -> None:
    teacher = net(9)
    recipe = Recipe(2.5, batch_size=20, lr=0.05, distill=0.5, flip=False)

    def run(model: nn.Module, hook: Callable[[int], None] | None, checkpoint: Path | None) -> object:
        return fit(
            model,
            images(),
            recipe,
            preprocess=PIXELS,
            seed=0,
            teacher=teacher,
            after_step=hook,
            evaluate=images(50, 1),
            checkpoint=checkpoint,
        )[1]

    whole = net(dropout=0.3)
    curve = run(whole, None, None)
    file = tmp_path / "state"
    with pytest.raises(error):
        run(net(dropout=0.3), stop_at(at, error), file)
    assert file.exists() == (error is KeyboardInterrupt or at > 5)
    resumed = net(dropout=0.3)
    assert run(resumed, None, file) == curve
    assert same(resumed, whole)
    finished = net(dropout=0.3)
    assert run(finished, stop_at(STEPS, Killed), file) == curve  # nothing left to do
    assert same(finished, whole)


def test_the_state_is_written_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    with pytest.raises(Killed):
        fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, after_step=stop_at(3, Killed), checkpoint=tmp_path / "state")
    seen: list[int] = []
    fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, after_step=seen.append, checkpoint=tmp_path / "state")
    assert seen == list(range(3, STEPS + 1))
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_ctrl_c_waits_for_the_end_of_the_step_and_is_resumable(tmp_path: Path) -> None:
    seen: list[int] = []

    def hook(step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)  # a handler that was not held back would raise in here
        seen.append(step)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, after_step=hook, checkpoint=tmp_path / "state")
    assert seen == [1, 2, 3, 4]
    assert signal.getsignal(signal.SIGINT) is handler
    resumed, _ = fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, after_step=seen.append, checkpoint=tmp_path / "state")
    assert seen == list(range(1, STEPS + 1))
    assert same(resumed, fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0)[0])


@pytest.mark.parametrize("what", ["seed", "recipe", "data", "starting weights", "teacher"])
def test_a_state_of_another_training_is_refused(what: str, tmp_path: Path) -> None:
    file = tmp_path / "state"
    fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, checkpoint=file)
    before = file.read_bytes()
    other_recipe = Recipe(epochs=3, batch_size=20, lr=0.05, flip=False, augment=False)
    with pytest.raises(CheckpointError, match=rf"belongs to another training \({what}: .*delete it") as caught:
        fit(
            net(1 if what == "starting weights" else 0),
            images(seed=1 if what == "data" else 0),
            other_recipe if what == "recipe" else RECIPE,
            preprocess=PIXELS,
            seed=1 if what == "seed" else 0,
            teacher=net(2) if what == "teacher" else None,
            checkpoint=file,
        )
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10])
def test_a_damaged_state_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(CheckpointError, match="delete it to start again"):
        fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, checkpoint=tmp_path / "state")


def test_a_loss_that_is_not_finite_names_the_step_and_writes_nothing(tmp_path: Path) -> None:
    model = net()

    def spoil(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                model.get_parameter("8.bias")[0] = float("nan")

    with pytest.raises(
        GleanetError, match=r"train diverged: the loss is not finite at step 4 of 12 .*lower the learning rate, say to 0\.0125"
    ):
        fit(model, images(), RECIPE, preprocess=PIXELS, seed=0, after_step=spoil, checkpoint=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_distillation_from_itself_teaches_nothing() -> None:
    """With the network as its own teacher, no weight decay and frozen norms, the loss is 0 and so is every gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, curve = fit(model, images(), Recipe(1, lr=0.1, distill=1.0, weight_decay=0.0), preprocess=PIXELS, seed=0, teacher=model)
    assert [point.loss for point in curve.points] == [pytest.approx(0.0, abs=1e-6)]
    torch.testing.assert_close(model.state_dict(), start, rtol=0, atol=1e-5)


def test_the_teacher_is_left_alone() -> None:
    teacher, before = net(5), net(5)
    fit(net(), images(), Recipe(1, lr=0.1, distill=0.5), preprocess=PIXELS, seed=0, teacher=teacher)
    assert same(teacher, before)
    assert teacher.training


def test_zero_epochs_change_nothing() -> None:
    model, curve = fit(net(), images(), Recipe(0), preprocess=PIXELS, seed=0)
    assert same(model, net())
    assert curve.points == ()


def test_another_number_of_classes_is_refused_before_any_step() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(ModelError, match="tells 10 classes apart, halves has 4"):
        fit(model, images(), RECIPE, preprocess=PIXELS, seed=0)
    with pytest.raises(ModelError, match="does not accept an input"):
        fit(net(), images(side=6), RECIPE, preprocess=PIXELS, seed=0)


class Counter:
    """A Progress that adds up."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[int | None, str]] = {}
        self.done: dict[str, int] = {}
        self.lines: list[str] = []

    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        self.tasks[what] = (total, unit)

        def advance(units: int) -> None:
            self.done[what] = self.done.get(what, 0) + units

        yield advance

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_progress_counts_images_to_the_total_also_when_resumed(tmp_path: Path) -> None:
    total = 2 * 96 + 2 * 20
    for stop in (7, None):
        progress = Counter()
        hook = None if stop is None else stop_at(stop, KeyboardInterrupt)
        try:
            fit(
                net(),
                images(),
                RECIPE,
                preprocess=PIXELS,
                seed=0,
                after_step=hook,
                name="Recover",
                checkpoint=tmp_path / "s",
                progress=progress,
            )
        except KeyboardInterrupt:
            assert progress.done["Recover"] == 96 + 20
        assert progress.tasks["Recover"] == (total, "images")
    assert progress.done["Recover"] == total


def test_the_curve_has_a_point_at_every_epochs_end() -> None:
    _, curve = fit(net(), images(), RECIPE, preprocess=PIXELS, seed=0, evaluate=images(30, 1), name="x")
    assert curve.name == "x"
    assert [point.step for point in curve.points if point.accuracy is not None] == [5, 10, 12]
    assert curve.points[-1].epoch == 12 / 5


def test_the_range_tests_choice_is_said_and_used() -> None:
    progress = Counter()
    _, curve = fit(net(), images(), Recipe(1, batch_size=20, warmup=0.0, flip=False), preprocess=PIXELS, seed=0, progress=progress)
    assert progress.lines == [f"peak learning rate {curve.points[0].lr:g}, from a range test"]


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT)])
def test_a_patient_block_holds_back_all_that_torchrun_sends(signals: tuple[signal.Signals, ...]) -> None:
    """Also twice, also on the way out with an error, which then is the one that is seen."""

    def send() -> None:
        for each in signals:
            os.kill(os.getpid(), each)
        time.sleep(0.05)

    def work() -> None:
        with Deferred(patient=True) as held:
            send()
            assert held.pending
            assert not held.forced
            raise Killed

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGTERM, before)
    try:
        with pytest.raises(Killed):
            work()
        send()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
