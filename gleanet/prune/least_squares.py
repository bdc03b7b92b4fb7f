"""Layers as matrices: a convolution is a linear map of patches, so its inputs' covariance says all that least squares needs.

Shared by the criterion ``residual`` and by the recycling of features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.core.errors import ModelError, SettingsError
from gleanet.prune.groups import Grouping
from gleanet.prune.layers import filters, group_count, is_depthwise, kernel_size, weight_of, widths

# Rows of patches per layer: four times as many bring nothing (benchmarks/pruning_steps.py, docs/evidence.md).
ROWS = 65_536
RIDGE = 1e-3
LARGEST = 8192  # columns of a covariance that is still formed (512 MB in float64); beyond, only means or variances are used


def labelled_batches(calibration: Iterable[object], grouping: Grouping) -> list[tuple[Tensor, object]]:
    """Calibration images as a list of batches [B, C, H, W] of the network's type, on its device, each with what was given beside it.

    Args:
        calibration: batches of float images, or (images, labels) pairs, of tensors or arrays; or one tensor [N, C, H, W].
        grouping: the groups of the network, which know what it takes.

    Returns:
        (images, labels) pairs, None for labels that are not given; calibration again for whoever takes calibration.

    Raises:
        SettingsError: no images, or something that is not a batch of images for this network.
    """
    parameter = next(grouping.traced.parameters())
    shape = grouping.input_shape()
    batches: list[tuple[Tensor, object]] = []
    for item in [calibration] if isinstance(calibration, Tensor) else calibration:
        images, labels = (*item, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
        tensor = torch.as_tensor(images)
        if tensor.dim() != len(shape) + 1 or tensor.shape[1] != shape[0] or not tensor.is_floating_point():
            raise SettingsError(
                f"a calibration batch has shape {list(tensor.shape)} and type {tensor.dtype}: pass batches of float images {['B', *shape]}"
            )
        if len(tensor):
            batches.append((tensor.detach().to(parameter), labels))
    if not batches:
        raise SettingsError("there are no calibration images: pass a few hundred, labels are not needed")
    return batches


def image_batches(calibration: Iterable[object], grouping: Grouping) -> list[Tensor]:
    """The images of :func:`labelled_batches` alone."""
    return [images for images, _ in labelled_batches(calibration, grouping)]


def refittable(module: nn.Module) -> bool:
    """Layers whose weights can be solved for: linear ones and 2-d convolutions that mix channels."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not is_depthwise(module))


def columns(module: nn.Module) -> int:
    """Columns of the layer's matrix: input channels times kernel positions."""
    return widths(module)[1] * kernel_size(module)


def matrix(module: nn.Module) -> Tensor:
    """The layer's weight as float64 [out, columns] on the CPU; a grouped convolution becomes block-diagonal."""
    rows = filters(module).cpu().double().flatten(1)
    whole: Tensor = torch.block_diag(*rows.chunk(group_count(module)))  # type: ignore[no-untyped-call]
    return whole


def as_weight(whole: Tensor, module: nn.Module) -> Tensor:
    """The weight of a layer from its matrix [out, columns]: the inverse of :func:`matrix`."""
    weight, groups = weight_of(module), group_count(module)
    blocks = [rows.chunk(groups, 1)[at] for at, rows in enumerate(whole.chunk(groups))]
    return torch.cat(blocks).reshape(weight.shape).to(weight)


def input_energy(module: nn.Module, scale: Tensor | None) -> Tensor:
    """Squared weights that read each input channel, summed, [in] float64; ``scale`` [out] multiplies the outputs first."""
    rows = filters(module).cpu().double()  # [out, in / groups, ...]
    squares = rows.square().reshape(*rows.shape[:2], -1).sum(2)
    if scale is not None:
        squares = squares * scale.square()[:, None]
    return torch.cat([part.sum(0) for part in squares.chunk(group_count(module))])


def rows_and_places(module: nn.Module, x: Tensor, per_image: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A sample of the patches a layer sees.

    Args:
        module: a layer for which :func:`refittable` holds.
        x: its input, [B, C, H, W] or [B, ..., F].
        per_image: patches to draw from each image (all, when there are fewer).
        generator: draws the positions, anew for each batch.

    Returns:
        patches [R, columns] and the flat output positions [P] they belong to; R = B * P, images outermost.
    """
    if isinstance(module, nn.Linear):
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        places = torch.randperm(flat.shape[1], generator=generator)[:per_image].to(x.device)
        return flat[:, places].reshape(-1, x.shape[-1]), places
    assert isinstance(module, nn.Conv2d)
    (kh, kw), (sh, sw), (dh, dw) = module.kernel_size, module.stride, module.dilation
    padded = F.pad(x, _padding(module))
    out_h = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    out_w = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    places = torch.randperm(out_h * out_w, generator=generator)[:per_image].to(x.device)
    top, left = places // out_w * sh, places % out_w * sw
    down = top[:, None, None] + torch.arange(kh, device=x.device)[None, :, None] * dh
    across = left[:, None, None] + torch.arange(kw, device=x.device)[None, None, :] * dw
    patches = padded[:, :, down, across]  # [B, C, P, kh, kw]
    return patches.permute(0, 2, 1, 3, 4).reshape(len(x) * len(places), -1), places


def _padding(module: nn.Conv2d) -> list[int]:
    """Left, right, top, bottom. "same" puts the odd pixel of an even kernel to the right and below, as torch does."""
    if isinstance(module.padding, str):
        totals = [d * (k - 1) if module.padding == "same" else 0 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return [side for pad in reversed(module.padding) for side in (pad, pad)]


@dataclass
class Moments:
    """Streaming first and second moments of rows, float64 on the CPU; memory does not depend on the number of rows.

    ``total`` and ``square`` are of what lies between the rows and an ``origin`` near their mean, [width], which the first rows set. Of
    rows whose mean is a thousand times their deviation, products in float32 would leave nothing of the latter.
    """

    count: int
    total: Tensor
    square: Tensor
    origin: Tensor | None = None

    @staticmethod
    def empty(width: int) -> "Moments":
        return Moments(0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64))

    def centred(self, rows: Tensor) -> Tensor:
        """Rows [R, width] less the origin."""
        if self.origin is None:
            self.origin = rows.mean(0)
        return rows - self.origin

    def add(self, rows: Tensor) -> None:
        """Add rows [R, width]. Products are taken in the rows' own precision, sums of batches in float64."""
        self.add_centred(self.centred(rows))

    def add_centred(self, rows: Tensor) -> None:
        """Add what :meth:`centred` gave."""
        self.count += len(rows)
        self.total += rows.sum(0).cpu().double()
        self.square += (rows.T @ rows).cpu().double()

    def offset(self) -> Tensor:
        """The mean less the origin."""
        return self.total / self.count

    def mean(self) -> Tensor:
        return self.offset() if self.origin is None else self.offset() + self.origin.cpu().double()

    def covariance(self) -> Tensor:
        offset = self.offset()
        return self.square / self.count - torch.outer(offset, offset)


class Regression:
    """Streaming ridge regression of what a layer's output lacks on the patches it reads: dW = (Cov(x) + ridge)^-1 Cov(x, lacking).

    Memory does not depend on the number of rows. A grouped convolution is solved group by group.

    Args:
        module: a refittable layer.
        solvable: False: only means are kept, for a layer with too many columns.
    """

    def __init__(self, module: nn.Module, *, solvable: bool) -> None:
        self.solvable = solvable
        self._groups, self._out = group_count(module), widths(module)[0]
        self._inputs = Moments.empty(columns(module) if solvable else 0)
        self._factors: list[Tensor] = []
        self.forget_targets()

    def forget_targets(self) -> None:
        """Start with other targets for the same rows."""
        width = len(self._inputs.total)
        self._count = 0
        self._total = torch.zeros(self._out, dtype=torch.float64)
        self._cross = torch.zeros(width // self._groups, self._out, dtype=torch.float64)

    def add(self, rows: Tensor, lacking: Tensor) -> None:
        """Add patches [R, columns] and what the output lacks there [R, out]."""
        near = self._inputs.centred(rows) if self.solvable else rows
        if self.solvable:
            self._inputs.add_centred(near)
        self._add_targets(near, lacking)

    def add_targets(self, rows: Tensor, lacking: Tensor) -> None:
        """Only the targets, for patches that were added before."""
        self._add_targets(self._inputs.centred(rows) if self.solvable else rows, lacking)

    def _add_targets(self, rows: Tensor, lacking: Tensor) -> None:
        self._count += len(rows)
        self._total += lacking.sum(0).cpu().double()
        if self.solvable:
            parts = zip(rows.chunk(self._groups, 1), lacking.chunk(self._groups, 1), strict=True)
            self._cross += torch.cat([x.T @ y for x, y in parts], 1).cpu().double()

    def solve(self) -> tuple[Tensor | None, Tensor]:
        """The change of the weight [out, columns / groups], None where that is not solvable, and of the output's mean [out]."""
        shift = self._total / self._count
        if not self.solvable:
            return None, shift
        means, offsets = (each.chunk(self._groups) for each in (self._inputs.mean(), self._inputs.offset()))
        if not self._factors:
            covariance, side = self._inputs.covariance(), len(means[0])
            blocks = [covariance[at : at + side, at : at + side] for at in range(0, len(covariance), side)]
            self._factors = [cholesky(block) for block in blocks]
        changes, shifts = [], []
        for factor, mean, offset, cross, wanted in zip(
            self._factors, means, offsets, self._cross.chunk(self._groups, 1), shift.chunk(self._groups), strict=True
        ):
            together = cross / self._count - torch.outer(offset, wanted)
            changes.append(torch.cholesky_solve(together, factor).T)
            shifts.append(wanted - changes[-1] @ mean)
        return torch.cat(changes), torch.cat(shifts)


@dataclass
class Variances:
    """Streaming variance of each column of rows: what is left of :class:`Moments` where a covariance would be too large."""

    count: int
    total: Tensor
    square: Tensor

    @staticmethod
    def empty(width: int) -> "Variances":
        return Variances(0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64))

    def add(self, rows: Tensor) -> None:
        """Add rows [R, width]."""
        self.count += len(rows)
        self.total += rows.sum(0).cpu().double()
        self.square += rows.square().sum(0).cpu().double()

    def mean(self) -> Tensor:
        return self.total / self.count

    def variance(self) -> Tensor:
        return (self.square / self.count - (self.total / self.count).square()).clamp(min=0)


def cholesky(covariance: Tensor) -> Tensor:
    """The lower Cholesky factor of a covariance [D, D] with its ridge.

    Raises:
        ModelError: it is not one: its rows were not finite numbers, or far too large for their type.
    """
    try:
        factor: Tensor = torch.linalg.cholesky(ridged(covariance, RIDGE))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ModelError(
            "what a layer of the network reads is not finite or far too large to be solved for: check the checkpoint, and that the images "
            "are normalised as in training"
        ) from error
    return factor


def ridged(covariance: Tensor, strength: float) -> Tensor:
    """Covariance plus ``strength`` times the mean variance of the columns that vary: solvable, and flat in its effect from 1e-5 to 0.1
    (measured). Columns that are constant, as those of channels at zero, change nothing for the others."""
    variances = covariance.diagonal()
    ridge = strength * float(variances.sum() / (variances > 0).sum().clamp(min=1)) + 1e-12
    return covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)
