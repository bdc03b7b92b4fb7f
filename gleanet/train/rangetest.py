"""The peak learning rate, from a short range test (L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, 3.3).

Every loss is held against that of the untouched network on the same batch. Some batches are harder than others, which hides the edge of
the valley: without this the rate for one pruned network was high or low by the luck of its batches. How recovery depends on the rate, and
which one is found, is measured by benchmarks/learning_rate.py (docs/evidence.md).
"""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import median_high

import torch
from torch import Tensor, nn

from gleanet.core.errors import GleanetError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess
from gleanet.data import ImageSet, epoch
from gleanet.nn.modes import mode
from gleanet.train.evaluate import device_of
from gleanet.train.randomness import forked_random, seed_random
from gleanet.train.recipe import Recipe, optimizer
from gleanet.train.step import batch_loss
from gleanet.train.team import ALONE, Team

STEPS = 60
LOWEST, HIGHEST = 1e-4, 1.0
EASE = 0.15  # added to both losses, for networks whose loss is almost 0: hundredths more are no rise
WINDOW = 5  # losses on either side that the running median looks at: single unlucky batches do not count
RISE = 1.3  # the loss has left its valley when it is this many times the valley's floor ...
LASTING = 7  # for so many steps: a bump on the valley's floor is not its edge
SAFETY = 2.5  # the peak is this many times below where the loss leaves the valley
CEILING = 0.1  # no higher: the networks of He et al. 2015 were trained from here, and a test of a few dozen steps cannot promise more


def range_test(
    model: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    *,
    preprocess: Preprocess,
    seed: int,
    teacher: nn.Module | None = None,
    team: Team = ALONE,
    progress: Progress = SILENT,
) -> float:
    """A peak learning rate for ``fit``, from 60 steps on a copy of the network with the rate growing from 1e-4 to 1.

    The rate where the loss leaves its valley, divided by 2.5, at most 0.1. That place is far clearer than the steepest descent or the
    minimum: for a network that is already trained, the loss is flat up to it.

    Args:
        model: unchanged.
        images: training images; at most 60 batches are used.
        recipe: batch size, augmentation, loss and optimizer; its ``lr`` and ``epochs`` are not looked at.
        preprocess: how pixels become input.
        seed: of data order and augmentation.
        teacher, team: as in ``fit``.
        progress: told about every step, in images.

    Returns:
        The learning rate, two significant digits; the same for the same arguments on one machine.

    Raises:
        GleanetError: the loss is not finite even at the lowest rate.
    """
    rates, ratios = sweep(model, images, recipe, preprocess=preprocess, seed=seed, teacher=teacher, team=team, progress=progress)
    if len(ratios) < 2:
        raise GleanetError(
            f"the loss is not finite even at learning rate {LOWEST:g}: the weights or the images are unusable (check the checkpoint)"
        )
    peak = choose(rates, ratios)
    progress.say(f"peak learning rate {peak:g}, from a range test")
    return peak


def choose(rates: Sequence[float], ratios: Sequence[float]) -> float:
    """The peak learning rate for what :func:`sweep` gave: [S] each, rates rising."""
    smooth = _running_median(ratios)
    floor = min(range(len(smooth)), key=smooth.__getitem__)
    last = len(smooth) - 1
    leaves = next((index for index in range(floor, last) if min(smooth[index : index + LASTING]) > RISE * smooth[floor]), last)
    return float(f"{min(CEILING, rates[leaves] / SAFETY):.1e}")


def sweep(
    model: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    *,
    preprocess: Preprocess,
    seed: int,
    teacher: nn.Module | None,
    team: Team,
    progress: Progress,
) -> tuple[list[float], list[float]]:
    """The rates of the steps, and how many times the loss of the untouched network the loss was at each; as :func:`range_test`.

    Returns:
        two lists [S]; S < 60 where the loss blew up.
    """
    device = device_of(model)
    net, untouched = (copy.deepcopy(model).to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    guide = None if teacher is None or recipe.distill == 0 else copy.deepcopy(teacher).to(device).eval()
    sgd = optimizer(net, recipe, LOWEST)
    rates: list[float] = []
    ratios: list[float] = []
    sizes = itertools.cycle([min(recipe.batch_size, len(images) - first) for first in range(0, len(images), recipe.batch_size)])
    batches = zip(_batches(images, recipe, preprocess, seed, team, device), sizes, strict=False)
    with (
        mode(net, training=True),
        mode(untouched, training=True),
        forked_random(device),
        team.together(net) as called,
        team.together(untouched) as called_before,
        progress.task("Find learning rate", None, "images") as advance,
    ):
        for step, (batch, whole) in enumerate(itertools.islice(batches, STEPS)):
            seed_random(device, seed, step, team.rank)
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            for group in sgd.param_groups:
                group["lr"] = rate
            value, share = batch_loss(team, called, guide, batch, whole, recipe)
            sgd.zero_grad(set_to_none=True)
            team.backward(value)
            sgd.step()
            with torch.no_grad():
                _, share_before = batch_loss(team, called_before, guide, batch, whole, recipe)
            advance(whole)
            found, before = (float(team.total(each)) for each in (share, share_before))
            if not (math.isfinite(found) and math.isfinite(before)):
                break
            rates.append(rate)
            ratios.append((found + EASE) / (before + EASE))
    return rates, ratios


def _batches(
    images: ImageSet, recipe: Recipe, preprocess: Preprocess, seed: int, team: Team, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for index in itertools.count():
        yield from epoch(
            images,
            recipe.batch_size,
            seed,
            index,
            augment=recipe.augment,
            preprocess=preprocess,
            flip=recipe.flip,
            part=(team.rank, team.size),
            device=device,
        )


def _running_median(values: Sequence[float]) -> list[float]:
    return [median_high(values[max(0, index - WINDOW) : index + WINDOW + 1]) for index in range(len(values))]
