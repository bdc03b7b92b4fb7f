"""Which part of a picture a network sees: a random one while it learns, the middle when it is judged. Pure arithmetic, no pixels."""

import math

import numpy as np

Box = tuple[int, int, int, int]  # left, top, width, height, in pixels

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10
SHORT_SIDE = 256 / 224  # the short side before the middle is cut out, relative to what is cut out


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """A random part of a picture: 8 to 100 % of its area, 3:4 to 4:3, every such area, shape and place alike.

    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6; the shape is drawn evenly over its logarithm. Where none of
    ten draws lies inside the picture, the largest middle part whose shape is allowed.

    Args:
        width, height: of the picture, in pixels, at least 1.
        rng: always gives the same number of draws, so that what it is asked for afterwards does not depend on the picture.
    """
    for area, aspect, across, down in rng.random((TRIES, 4)):
        pixels = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area)
        shape = math.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
        w, h = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(across * (width - w + 1)), int(down * (height - h + 1)), w, h
    w = min(width, max(1, round(height * ASPECT[1])))
    h = min(height, max(1, round(width / ASPECT[0])))
    return (width - w) // 2, (height - h) // 2, w, h


def middle(width: int, height: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a picture is judged: resized so that its short side is 256/224 of ``size``, then ``size`` x ``size`` pixels from its middle.

    A. Krizhevsky et al., "ImageNet Classification with Deep CNNs", NIPS 2012, section 2, rounded as torchvision's Resize and CenterCrop do,
    so that published accuracies are comparable.

    Returns:
        (width, height) of the resized picture, (left, top) of the middle in it.
    """
    short = round(size * SHORT_SIDE)
    resized = (short, short * height // width) if width <= height else (short * width // height, short)
    left, top = (round((side - size) / 2) for side in resized)
    return resized, (left, top)
