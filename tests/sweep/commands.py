"""The commands and their options as the command line declares them, and sweeps made of files."""

from pathlib import Path

from gleanet.cli.sweep import COMMANDS, options_of
from gleanet.core.sweeps import SweepSettings
from gleanet.sweep.file import read

KNOWN = {name: options_of(function) for name, (function, _) in COMMANDS.items()}
TRAIN = """
command = "train"
seeds = 2
baseline = { activation = "relu" }
[options]
model = "resnet8"
data = "digits"
epochs = 1
[grid]
activation = ["relu", "mish"]
lr = [0.1, 0.2]
"""


def sweep_of(folder: Path, text: str = TRAIN) -> SweepSettings:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sweep.toml"
    file.write_text(text)
    return read(file, KNOWN)
