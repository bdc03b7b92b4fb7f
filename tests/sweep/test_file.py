"""A sweep's file: what it means, and that each mistake in it is found before anything runs, and named."""

from pathlib import Path

import pytest

from gleanet.core.errors import SettingsError
from gleanet.core.sweeps import Choice
from gleanet.sweep.grid import cells, shape
from gleanet.sweep.options import flags
from tests.sweep.commands import KNOWN, TRAIN, sweep_of


def test_the_cells_are_the_product_of_grid_and_seeds_seed_by_seed(tmp_path: Path) -> None:
    settings = sweep_of(tmp_path)
    made = cells(settings, KNOWN["train"])
    assert [(cell.labels["activation"], cell.labels["lr"], cell.seed) for cell in made] == [
        (activation, lr, seed) for seed in (0, 1) for activation in ("relu", "mish") for lr in ("0.1", "0.2")
    ]
    assert len({cell.name for cell in made}) == 8
    assert made[0].words == ("train", "--seed=0", "--data=digits", "--epochs=1", "--activation=relu", "--lr=0.1", "--", "resnet8")
    assert shape(settings) == "8 cells: 2 activation x 2 lr x 2 seeds"


def test_a_cell_keeps_its_name_as_long_as_it_is_the_same_run(tmp_path: Path) -> None:
    """In another order, in a larger grid, with other resources; not with other options."""
    known, names = KNOWN["train"], {cell.name for cell in cells(sweep_of(tmp_path), KNOWN["train"])}
    other = TRAIN.replace('["relu", "mish"]', '["gelu", "mish", "relu"]').replace("seeds = 2", "seeds = [5, 1, 0]\nretries = 7")
    assert names < {cell.name for cell in cells(sweep_of(tmp_path, other), known)}
    turned = TRAIN.replace('data = "digits"\n', "").replace("epochs = 1", 'epochs = 1\ndata = "digits"')
    assert names == {cell.name for cell in cells(sweep_of(tmp_path, turned), known)}
    assert not names & {cell.name for cell in cells(sweep_of(tmp_path, TRAIN.replace("epochs = 1", "epochs = 2")), known)}


def test_an_axis_of_tables_sets_several_options(tmp_path: Path) -> None:
    text = """
        command = "prune"
        options = { model = "resnet8", data = "digits", one-shot = true }
        baseline = { way = "plain" }
        [grid]
        way = [{ name = "plain", criterion = "l2" }, { name = "fcr", criterion = "fpgm", residual = true }]
    """
    settings = sweep_of(tmp_path, text)
    assert settings.grid["way"] == (
        Choice("plain", {"criterion": "l2"}),
        Choice("fcr", {"criterion": "fpgm", "residual": True}),
    )
    assert cells(settings, KNOWN["prune"])[1].words == (
        *("prune", "--seed=0", "--data=digits", "--one-shot", "--criterion=fpgm", "--residual", "--", "resnet8"),
    )


def test_switches_are_turned_on_and_off() -> None:
    known = KNOWN["quantize"]
    assert flags({"repair": True, "random_data": True}, known) == ("--repair", "--random-data")
    assert flags({"repair": False, "random_data": False}, known) == ("--no-repair",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[grid]", "[grids]", r"sweep.toml: unknown key 'grids': did you mean 'grid'\?"),
        ('"train"', '"trian"', r"unknown command 'trian': did you mean 'train'\?"),
        ('command = "train"', "", "command is missing: one of train, shrink, prune, quantize"),
        ("lr =", "learning_rats =", "unknown option of gleanet train 'learning_rats'"),
        ("epochs = 1", "epoch = 1", r"unknown option of gleanet train 'epoch': did you mean 'epochs'\?"),
        ("epochs = 1", "seed = 1", "seed belongs to each cell: give seeds = N"),
        ("epochs = 1", 'out = "x"', "unknown option of gleanet train 'out'"),
        ("epochs = 1", "lr = 1", r"lr is set by \[options\] and by \[grid\] lr"),
        ("epochs = 1", "epochs = true", "epochs is True: it must be a value, not true or false"),
        ("epochs = 1", "epochs = [1]", "Expected `.*` - at `options"),
        ("[0.1, 0.2]", "[]", r"\[grid\] lr is empty"),
        ("[0.1, 0.2]", "0.1", "Expected `array`"),
        ("[0.1, 0.2]", "[0.1, 0.10]", r"\[grid\] lr has 0.1 twice"),
        ("[0.1, 0.2]", "[0.1, {name = 'x', lr = 1}]", "lr has values and tables"),
        ("lr = [0.1, 0.2]", "way = [{lr = 1}]", "a table needs a name"),
        ("lr = [0.1, 0.2]", "way = [{name = 'a', activation = 'gelu'}]", "activation is set by .grid. activation and by .grid. way"),
        ('{ activation = "relu" }', '{ activation = "relo" }', r"unknown value of activation in baseline 'relo': did you mean 'relu'\?"),
        ('{ activation = "relu" }', '{ epochs = "1" }', "unknown axis of the grid in baseline 'epochs'"),
        ("seeds = 2", "seeds = 0", "seeds is"),
        ("seeds = 2", "seeds = [1, 1]", r"seeds is \[1, 1\]"),
        ("seeds = 2", "seeds = 1000000000", "seeds|cells are more than"),
        ("seeds = 2", "retries = -1", "retries is -1"),
        ("seeds = 2", "resources = { cpu = 2 }", r"unknown key of \[resources\] 'cpu': did you mean 'cpus'\?"),
        ("seeds = 2", "resources = { cpus = 0 }", "cpus is 0"),
        ("seeds = 2", "resources = { gpus = 1.5 }", "gpus is 1.5: it must be a whole number, or a fraction of one"),
        ("epochs = 1", 'device = "cuda"', "device is cuda, and a cell has no GPU: set gpus = 1"),
        ("seeds = 2", "resources = 3", "resources must be a table"),
        ("seeds = 2", "seeds = ", "is not TOML"),
        ('"resnet8"', '"res\\u0000net"', "holds a character that no command line can"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert TRAIN.count(old) == 1
    with pytest.raises(SettingsError, match=says):
        cells(sweep_of(tmp_path, TRAIN.replace(old, new)), KNOWN["train"])
