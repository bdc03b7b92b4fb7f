"""The peak learning rate, from a short range test (L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, 3.3)."""

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
WINDOW = 5  # losses on either side that the running median looks at: single unlucky batches do not count
RISE = 1.3  # the loss has left its valley when it is this many times the valley's floor ...
LASTING = 7  # for so many steps: a bump on the valley's floor is not its edge
RISE_AT_LEAST = 0.05  # ... and this much above it, for networks whose loss is almost 0
SAFETY = 4.0  # the peak is this many times below where the loss leaves the valley
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

    The rate where the loss leaves its valley, divided by 4, at most 0.1. That place is far clearer than the steepest descent or the
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
    rates, losses = _sweep(model, images, recipe, preprocess, seed, teacher, team, progress)
    if len(losses) < 2:
        raise GleanetError(
            f"the loss is not finite even at learning rate {LOWEST:g}: the weights or the images are unusable (check the checkpoint)"
        )
    return choose(rates, losses)


def choose(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The peak learning rate for a sweep: losses [S] seen at rates [S], rising; the sweep may have ended early where the loss blew up."""
    smooth = _running_median(losses)
    floor = min(range(len(smooth)), key=smooth.__getitem__)
    bar = max(smooth[floor] * RISE, smooth[floor] + RISE_AT_LEAST)
    last = len(smooth) - 1
    leaves = next((index for index in range(floor, last) if min(smooth[index : index + LASTING]) > bar), last)
    return float(f"{min(CEILING, rates[leaves] / SAFETY):.1e}")


def _sweep(
    model: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    preprocess: Preprocess,
    seed: int,
    teacher: nn.Module | None,
    team: Team,
    progress: Progress,
) -> tuple[list[float], list[float]]:
    device = device_of(model)
    net = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    guide = None if teacher is None or recipe.distill == 0 else copy.deepcopy(teacher).to(device).eval()
    sgd = optimizer(net, recipe, LOWEST)
    rates: list[float] = []
    losses: list[float] = []
    sizes = itertools.cycle([min(recipe.batch_size, len(images) - first) for first in range(0, len(images), recipe.batch_size)])
    batches = zip(_batches(images, recipe, preprocess, seed, team, device), sizes, strict=False)
    with (
        mode(net, training=True),
        forked_random(device),
        team.together(net) as called,
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
            advance(whole)
            found = float(team.total(share))
            if not math.isfinite(found):
                break
            rates.append(rate)
            losses.append(found)
    return rates, losses


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
