"""Small pictures of images, for pages."""

import io

import numpy as np
from PIL import Image

from gleanet.data.images import Pixels

SIDE = 64


def png(pixels: Pixels, side: int | None = None) -> bytes:
    """uint8 [3, H, W] as a PNG file, every pixel as it is.

    Args:
        side: where the image is larger, it is scaled down to this many pixels on its longer side.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if side is not None and max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()
