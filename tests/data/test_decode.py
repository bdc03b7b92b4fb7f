import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gleanet.core.errors import DataError
from gleanet.data import decode as module
from gleanet.data.decode import decode, decode_all, encoding
from tests.data.tiny import encoded, noise


@pytest.mark.parametrize("size", [8, 200])  # below and above the size from which threads are used
def test_lossless_images_come_back_in_order(size: int) -> None:
    pixels = noise(600 if size < 100 else 5, size, size)
    decoded = decode_all((encoded(image) for image in pixels), len(pixels), str)
    np.testing.assert_array_equal(decoded, pixels)


def test_threads_decode_several_chunks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERIAL_PIXELS", 0)
    monkeypatch.setattr(module, "CHUNK", 7)
    pixels = noise(100, 4, 4)
    np.testing.assert_array_equal(decode_all([encoded(image) for image in pixels], 100, str), pixels)


def test_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    grey = noise(1)[0, 0]
    for name, image in (
        ("L", Image.fromarray(grey)),
        ("LA", Image.fromarray(grey).convert("LA")),
        ("P", Image.fromarray(grey).convert("P")),
    ):
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(decode(tmp_path / f"{name}.png", name), np.stack([grey] * 3))


@pytest.mark.parametrize("threshold", [0, 10**9])
def test_an_image_of_another_size_is_named(monkeypatch: pytest.MonkeyPatch, threshold: int) -> None:
    monkeypatch.setattr(module, "SERIAL_PIXELS", threshold)
    images = [encoded(noise(1, 8, 8)[0])] * 300 + [encoded(noise(1, 8, 9)[0])]
    with pytest.raises(DataError, match=r"row 300 is 9x8, row 0 is 8x8: .*resize"):
        decode_all(images, 301, lambda row: f"row {row}")


def test_a_broken_image_is_named() -> None:
    whole = encoded(noise(1)[0], "JPEG")
    for broken in (whole[: len(whole) // 2], b"no image", b"\xff\xd8\xff", encoded(noise(1)[0])[:60]):
        with pytest.raises(DataError, match=r"^row 1 ") as caught:
            decode_all([whole, broken], 2, lambda row: f"row {row}")
        assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 63)
    with pytest.raises(DataError, match="row 0 has 8x8 pixels, more than 63"):
        decode_all([encoded(noise(1, 8, 8)[0])], 1, lambda row: f"row {row}")
    for limit in (20, 50):  # Pillow's own limit: an error above twice the limit, a warning above it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as outside of tests: a mere warning must still refuse the image
            with pytest.raises(DataError, match="row 0 has more than 63 pixels"):
                decode_all([encoded(noise(1, 8, 8)[0])], 1, lambda row: f"row {row}")


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="pixel type I;16: convert"):
        decode(tmp_path / "x.png", "x")


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        decode_all([], 0, str)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 58, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_quality_is_read_back_from_the_tables(quality: int, subsampling: int) -> None:
    assert encoding(encoded(noise(1)[0], "JPEG", quality=quality, subsampling=subsampling), "x") == f"JPEG q{quality}"


def test_other_encodings_are_called_what_they_are() -> None:
    assert encoding(encoded(noise(1)[0]), "x") == "PNG"
    tables = [[value + 1 if i == 5 else value for i, value in enumerate(_luminance(80))], _luminance(80)]
    assert encoding(encoded(noise(1)[0], "JPEG", qtables=tables), "x") == "JPEG q~80"
    with pytest.raises(DataError, match="x is not an image"):
        encoding(b"nothing", "x")


def _luminance(quality: int) -> list[int]:
    with Image.open(io.BytesIO(encoded(noise(1)[0], "JPEG", quality=quality))) as image:
        tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
    return list(tables[0])


def test_progress_counts_every_image() -> None:
    seen: list[int] = []

    class Counting:
        @contextmanager
        def task(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
            assert (what, total, unit) == ("Decode", 300, "images")
            yield seen.append

        def say(self, line: str) -> None:
            raise AssertionError(line)

    decode_all([encoded(noise(1, 4, 4)[0])] * 300, 300, str, progress=Counting())
    assert sum(seen) == 300
