import pytest
import torch

from gleanet.data.augment import crop_flip


def _slow(images: torch.Tensor, generator: torch.Generator, padding: int, flip: bool) -> torch.Tensor:
    """One image, one pixel row at a time, with the same draws."""
    n, _, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    flips = torch.randint(0, 2, (n, 1), generator=generator) if flip else torch.zeros(n, 1)
    out = torch.zeros_like(images)
    for i in range(n):
        top, left = int(offsets[0, i]) - padding, int(offsets[1, i]) - padding
        for y in range(height):
            for x in range(width):
                wanted = width - 1 - x if flips[i] else x
                if 0 <= y + top < height and 0 <= wanted + left < width:
                    out[i, :, y, x] = images[i, :, y + top, wanted + left]
    return out


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("padding", "height", "width"), [(4, 8, 8), (1, 5, 7), (0, 6, 6), (9, 4, 4)])
def test_equals_the_loop_over_single_pixels(padding: int, height: int, width: int, flip: bool) -> None:
    images = torch.randint(1, 256, (32, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    ours = crop_flip(images, torch.Generator().manual_seed(2), padding, flip)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, _slow(images, torch.Generator().manual_seed(2), padding, flip))
    assert torch.equal(images, before)


def test_every_offset_and_both_directions_occur_equally_often() -> None:
    """A single white pixel in the middle shows where each image went; without symmetry it shows the direction, too."""
    images = torch.zeros((8000, 3, 8, 8), dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    images[:, :, 4, 5] = 100
    out = crop_flip(images, torch.Generator().manual_seed(3), padding=1)
    place = (out[:, 0] == 255).flatten(1).int().argmax(1)
    mirrored = (out[:, 0] == 100).flatten(1).int().argmax(1) < place
    assert abs(mirrored.float().mean() - 0.5) < 4 * (0.25 / 8000) ** 0.5
    counts = torch.bincount(place[~mirrored], minlength=64).view(8, 8)[3:6, 3:6].flatten().float()
    expected = (~mirrored).sum() / 9
    assert counts.sum() == (~mirrored).sum()
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi squared, 8 degrees of freedom, p = 0.001


def test_no_padding_and_no_flip_changes_nothing() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crop_flip(images, torch.Generator().manual_seed(0), padding=0, flip=False), images)
