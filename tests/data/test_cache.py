from pathlib import Path

import numpy as np
import pytest

from gleanet.data.cache import cache_dir, cached
from gleanet.data.images import Pixels
from tests.data.tiny import noise


class Maker:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Pixels:
        self.calls += 1
        return noise(5)


def test_made_once_and_read_without_pickle(cache: Path) -> None:
    make = Maker()
    for _ in range(3):
        images = cached("k", 5, make)
        np.testing.assert_array_equal(images, noise(5))
        assert images.flags.writeable
    assert make.calls == 1
    np.testing.assert_array_equal(np.load(cache / "decoded" / "k.npy", allow_pickle=False), noise(5))
    assert [path.name for path in (cache / "decoded").iterdir()] == ["k.npy"]


def _flip_a_bit(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_bit,
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: b"nonsense" * 100,
        lambda data: data.replace(b"(5, 3, 32, 32)", b"(9, 3, 99, 99)"),
        lambda data: data.replace(b"(5, 3, 32, 32)", b"(5, 3, 2**9,2)"),
        lambda data: data.replace(b"|u1", b"|O1"),
    ],
)
def test_a_broken_file_is_made_again(cache: Path, damage: object) -> None:
    assert callable(damage)
    make = Maker()
    cached("k", 5, make)
    path = cache / "decoded" / "k.npy"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(cached("k", 5, make), noise(5))
    assert make.calls == 2
    assert path.read_bytes() == whole


def test_a_file_with_another_count_is_made_again() -> None:
    make = Maker()
    cached("k", 5, make)
    cached("k", 6, make)
    assert make.calls == 2


def test_an_unwritable_cache_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path / "file" / "below"))  # a folder cannot be made below a file, not even by root
    make = Maker()
    for _ in range(2):
        np.testing.assert_array_equal(cached("k", 5, make), noise(5))
    assert make.calls == 2


def test_the_default_place_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLEANET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().name == "gleanet"
