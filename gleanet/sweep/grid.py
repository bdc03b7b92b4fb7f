"""The cells of a sweep: each combination of the grid with each seed, and the command line of each."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gleanet.core.errors import SettingsError
from gleanet.core.sweeps import MAX_CELLS, Choice, SweepSettings
from gleanet.sweep.options import Option, flags


@dataclass(frozen=True)
class Cell:
    """One run: ``words`` is its command line without ``--out``; a cell with other words has another name."""

    name: str
    labels: dict[str, str]
    seed: int
    words: tuple[str, ...]

    def title(self) -> str:
        return ", ".join((*self.labels.values(), f"seed {self.seed}"))


def cells(settings: SweepSettings, known: Mapping[str, Option]) -> tuple[Cell, ...]:
    """All cells, seed by seed, so that a sweep that is cut short has compared all combinations.

    Raises:
        SettingsError: more than ``MAX_CELLS``.
    """
    count = len(settings.seeds)
    for choices in settings.grid.values():
        count *= len(choices)
    if count > MAX_CELLS:
        raise SettingsError(f"{count:,} cells are more than the {MAX_CELLS:,} of one sweep: split it")
    picked = list(itertools.product(*settings.grid.values()))
    return tuple(
        _cell(settings, dict(zip(settings.grid, choices, strict=True)), seed, known) for seed in settings.seeds for choices in picked
    )


def _cell(settings: SweepSettings, picked: Mapping[str, Choice], seed: int, known: Mapping[str, Option]) -> Cell:
    options = dict(settings.options)
    for choice in picked.values():
        options |= choice.options
    words = (settings.command, f"--seed={seed}", *flags(options, known))
    labels = {axis: choice.label for axis, choice in picked.items()}
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(labels.values())).strip("-.")[:60] or settings.command
    mark = hashlib.sha256(json.dumps(sorted(words)).encode()).hexdigest()[:8]
    return Cell(f"{stem}-s{seed}-{mark}", labels, seed, words)


def shape(settings: SweepSettings) -> str:
    """``18 cells: 3 criterion x 2 flops x 3 seeds``."""
    seeds = len(settings.seeds)
    sizes = [(len(choices), axis) for axis, choices in settings.grid.items()] + [(seeds, "seed" if seeds == 1 else "seeds")]
    count = 1
    for size, _ in sizes:
        count *= size
    return f"{count:,} cell{'' if count == 1 else 's'}: {' x '.join(f'{size} {name}' for size, name in sizes)}"
