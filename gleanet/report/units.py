"""Numbers as people read them. The terminal and the page print through these functions, so they never disagree."""

import re
from collections.abc import Mapping, Sequence

from gleanet.core.records import Accuracy, Change

NONE = "–"
MINUS = "\N{MINUS SIGN}"
_NUMBER = re.compile(r"([-+]?[\d,]*\.?\d+)(?: ?(k|M|G|kB|MB|ms|s|µs))?(?![\w])")
_SCALE = {"k": 1e3, "M": 1e6, "G": 1e9, "kB": 1e3, "MB": 1e6, "s": 1e3, "µs": 1e-3}


def percent(fraction: float) -> str:
    """``0.4981`` -> ``49.8 %``. Only a whole is ``100.0 %`` and only nothing is ``0.0 %``: one miss in 10,000 shows as 99.9 %."""
    return f"{_tenths(fraction)} %"


def accuracy(value: Accuracy | None) -> str:
    """``88.0 % (87.4 to 88.6)``: the value and its 95 % interval."""
    if value is None:
        return NONE
    return f"{percent(value.value)} ({_tenths(value.low)} to {_tenths(value.high)})"


def change(value: Change | None) -> str:
    """``−0.6 points (−1.1 to −0.2)``: the paired difference in percentage points and its 95 % interval."""
    if value is None:
        return NONE
    return f"{_signed(value.delta)} points ({_signed(value.low)} to {_signed(value.high)})"


def count(number: int) -> str:
    """``40551808`` -> ``40.6 M``; below ten thousand in full."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        # 999,950 would print as "1000.0 k": it belongs to the next unit
        if number >= 0.99995 * size and number >= 10_000:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


def size(number: int | None) -> str:
    """``247304`` -> ``247 kB`` (1 kB = 1000 bytes); from 10 MB on in MB."""
    if number is None:
        return NONE
    return f"{number / 1e6:,.1f} MB" if number >= 10_000_000 else f"{number / 1e3:,.0f} kB" if number >= 1000 else f"{number} bytes"


def milliseconds(value: float | None) -> str:
    """Three significant digits: ``0.412 ms``, ``12.3 ms``, ``1,305 ms``."""
    if value is None:
        return NONE
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f} ms"


def times(ratio: float | None) -> str:
    """``2.6×``; two digits, because a repeated timing agrees with itself to a few percent."""
    return NONE if ratio is None else f"{factor(ratio)}×"


def factor(ratio: float) -> str:
    """The number of :func:`times` without its sign: ``2.6``, ``0.93``, ``12``."""
    return f"{ratio:.2f}" if ratio < 0.995 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def duration(seconds: float) -> str:
    """``1874`` -> ``31 min 14 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def number(text: str) -> float | None:
    """The number that a printed figure begins with, so that a column can be sorted: ``1.1 MB`` -> 1.1e6, ``−0.6 points`` -> -0.6.

    Bytes, counts and milliseconds are the units; None where the text begins with no number.
    """
    found = _NUMBER.match(text.replace(MINUS, "-"))
    return None if found is None else float(found[1].replace(",", "")) * _SCALE.get(found[2] or "", 1.0)


def plain(value: object) -> str:
    """A setting's value in words: yes and no for booleans, a list with commas, a dash for nothing."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or NONE
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value) or NONE
    return str(value)


def _tenths(fraction: float) -> str:
    text = f"{100 * fraction:.1f}"
    if text == "100.0" and fraction < 1:
        return "99.9"
    return "0.1" if text == "0.0" and fraction > 0 else text


def _signed(fraction: float) -> str:
    text = f"{abs(100 * fraction):.1f}"
    return text if text == "0.0" else f"{MINUS if fraction < 0 else '+'}{text}"
