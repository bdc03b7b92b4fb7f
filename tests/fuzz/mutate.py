"""Seeded damage to bytes: what broken disks, cut downloads and hostile hands do to a file."""

import re
from collections.abc import Callable

import numpy as np

Random = np.random.Generator

# Numbers that readers have been tripping over for as long as there have been readers.
NUMBERS = (
    b"0", b"-1", b"1e309", b"-1e309", b"NaN", b"Infinity", b"null", b"true", b'""', b"[]", b"{}", b"1e-320", b"0.5", b"256", b"65536",
    b"2147483648", b"4294967296", b"9223372036854775808", b"1" + b"0" * 400, b'"\\ud800"', b'"<script>alert(1)</script>"',
)  # fmt: skip


def damage(data: bytes, rng: Random) -> bytes:
    """One kind of damage, drawn from all."""
    return KINDS[int(rng.integers(len(KINDS)))](data, rng)


def damage_text(data: bytes, rng: Random) -> bytes:
    """Damage to JSON or TOML: half of it keeps the syntax and changes a value, so that it gets past the parser."""
    return _another_value(data, rng) if rng.random() < 0.5 else damage(data, rng)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _flip(data: bytes, rng: Random) -> bytes:
    """One to eight bits."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if out:
            out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _flip_ends(data: bytes, rng: Random) -> bytes:
    """Bits of the first or last 64 bytes, where headers and footers are."""
    size = min(64, len(data))
    return _flip(data[:size], rng) + data[size:] if rng.random() < 0.5 else data[:-size] + _flip(data[-size:], rng)


def _overwrite(data: bytes, rng: Random) -> bytes:
    """A span of noise, of zeros or of ones."""
    start, length = _span(data, rng)
    fill = (rng.bytes(length), bytes(length), b"\xff" * length)[int(rng.integers(3))]
    return data[:start] + fill + data[start + length :]


def _remove(data: bytes, rng: Random) -> bytes:
    start, length = _span(data, rng)
    return data[:start] + data[start + length :]


def _repeat(data: bytes, rng: Random) -> bytes:
    start, length = _span(data, rng)
    return data[: start + length] + data[start : start + length] * int(rng.integers(1, 4)) + data[start + length :]


def _insert(data: bytes, rng: Random) -> bytes:
    start, length = _span(data, rng)
    return data[:start] + rng.bytes(length) + data[start:]


def _noise(data: bytes, rng: Random) -> bytes:
    """Nothing but noise, or noise behind the first bytes, by which readers know what they have before them."""
    keep = int(rng.choice([0, 2, 4, 8, 16, 64]))
    return data[:keep] + rng.bytes(int(rng.integers(0, 2000)))


def _number(data: bytes, rng: Random) -> bytes:
    """Four or eight bytes become an extreme integer."""
    if len(data) < 8:
        return data + data
    start, size = int(rng.integers(len(data) - 7)), int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice([0, 1, 127, 128, 255])) if size == 1 else int(rng.choice([0, 1, 2, -1, 3])) * (1 << (8 * size - 2))
    packed = (value % (1 << (8 * size))).to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return data[:start] + packed + data[start + size :]


def _another_value(data: bytes, rng: Random) -> bytes:
    """One number, string or word of a text becomes something else."""
    found = list(re.finditer(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null', data))
    if not found:
        return _insert(data, rng)
    hit = found[int(rng.integers(len(found)))]
    return data[: hit.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))] + data[hit.end() :]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    length = int(rng.choice([1, 2, 4, 8, 32, 128]))
    return int(rng.integers(len(data) + 1)), length


KINDS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _cut, _flip, _flip, _flip_ends, _overwrite, _remove, _repeat, _insert, _noise, _number, _number,
)  # fmt: skip
