"""Augmentation of whole batches, as pure functions of images and a generator."""

import torch


def crop_flip(images: torch.Tensor, generator: torch.Generator, padding: int = 4, flip: bool = True) -> torch.Tensor:
    """Shift every image by its own random offset, zeros moving in, and mirror every second one (on average).

    The standard CIFAR augmentation (C.-Y. Lee et al., Deeply-Supervised Nets, 2015, section 4; K. He et al., Deep Residual Learning, 2016,
    section 4.2): pad by ``padding`` zeros on each side, crop back to the size at random, flip left-right with probability 1/2.

    Args:
        images: [N, C, H, W], any dtype, on any device; uint8 is what the rest of gleanet passes. Not changed.
        generator: source of the randomness, on the CPU; draws 2 N offsets, then N flips if ``flip``.
        padding: largest shift, in pixels, >= 0.

    Returns:
        A new [N, C, H, W] of the same dtype, on the same device.
    """
    return moved(images, *draws(len(images), generator, padding, flip), padding)


def draws(n: int, generator: torch.Generator, padding: int, flip: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The random choices of :func:`crop_flip` for ``n`` images: offsets int64 [N, 2], top and left edge of each crop; flips bool [N]."""
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).T
    flips = torch.randint(0, 2, (n,), generator=generator).bool() if flip else torch.zeros(n, dtype=torch.bool)
    return offsets, flips


def moved(images: torch.Tensor, offsets: torch.Tensor, flips: torch.Tensor, padding: int) -> torch.Tensor:
    """``images`` [N, C, H, W] with these :func:`draws` carried out, where the images are: nothing but the draws is sent to a GPU."""
    n, channels, height, width = images.shape
    device = images.device
    offsets, flips = offsets.to(device, non_blocking=True), flips.to(device, non_blocking=True)
    rows = offsets[:, :1] + torch.arange(height, device=device)  # [N, H]
    columns = torch.arange(width, device=device).expand(n, width)
    columns = offsets[:, 1:] + torch.where(flips[:, None], width - 1 - columns, columns)  # [N, W]
    padded_width = width + 2 * padding
    # One gather on flattened pixels: 0.4 ms for 128 CIFAR images on one core, where a strided window per image takes 1.1 ms.
    index = (rows[:, :, None] * padded_width + columns[:, None, :]).view(n, 1, height * width)
    padded = torch.nn.functional.pad(images, (padding, padding, padding, padding)).flatten(2)
    return padded.gather(2, index.expand(n, channels, -1)).view(n, channels, height, width)
