"""A restricted reader for the Python pickles of CIFAR: dicts, lists, strings, numbers and uint8 matrices, and nothing that runs.

A pickle is a program. This reader (1) walks through it first and refuses every instruction that plain data does not need, (2) resolves the
few names in them to stand-ins of our own, so that no function of any library is ever called, and (3) makes the array itself
from the checked bytes. A pickle with code in it is refused before any of it has run.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gleanet.core.errors import DataError
from gleanet.data.images import Pixels

# The largest official file, cifar-100-python/train, has 155 MB.
MAX_FILE_BYTES = 256 * 2**20

# What pickle protocols 0 to 5 need for plain data and arrays. Absent on purpose: INST, OBJ, NEWOBJ*, PERSID, EXT*, out-of-band buffers.
_PLAIN_TEXT = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_PLAIN = frozenset(_PLAIN_TEXT.split())


class _Type:
    """Stand-in for numpy.dtype('u1'): only its code is kept."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """The pickled state holds byte order and flags, which a one-byte type does not have."""


class _Array:
    """Stand-in for a numpy array while its pickle is read."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Pixels | None = None

    def __setstate__(self, state: object) -> None:
        """``state`` is numpy's (version, shape, dtype, fortran order, raw bytes)."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise pickle.UnpicklingError("an array without the usual five-part state")
        _, shape, kind, fortran, raw = state
        self.fill(raw, kind, shape, "F" if fortran else "C")

    def fill(self, raw: object, kind: object, shape: object, order: Literal["C", "F"]) -> None:
        """Make the array from its bytes, everything checked first."""
        if not (isinstance(kind, _Type) and kind.code in ("u1", "uint8")):
            raise pickle.UnpicklingError(f"an array of type {getattr(kind, 'code', '?')}, expected uint8")
        data = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote str, Python 3 bytes
        if not (isinstance(shape, tuple) and len(shape) == 2 and all(type(side) is int and side >= 0 for side in shape)):
            raise pickle.UnpicklingError(f"an array of shape {shape}, expected two sides")
        if not isinstance(data, bytes | bytearray) or len(data) != shape[0] * shape[1]:
            raise pickle.UnpicklingError(f"an array of shape {shape} whose bytes do not fit it")
        self.value = np.frombuffer(data, dtype=np.uint8).reshape(shape, order=order).copy(order="C")


class _Call:
    """A name the pickle may call. Instances have no attributes, so a pickle cannot change what a call does."""

    __slots__ = ()


class _NewType(_Call):
    def __call__(self, code: object, *_: object) -> _Type:
        return _Type(code if isinstance(code, str) else "?")


class _NewArray(_Call):
    def __call__(self, *_: object) -> _Array:
        return _Array()


class _FromBuffer(_Call):
    """numpy's way in protocol 5, the default of Python 3.14."""

    def __call__(self, raw: object, kind: object, shape: object, order: object) -> _Array:
        array = _Array()
        array.fill(raw, kind, shape, "F" if order == "F" else "C")
        return array


class _Encode(_Call):
    """Python 3's way of writing bytes in protocols 0 to 2: text and the name of an encoding."""

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("bytes in another encoding than Latin-1")
        return text.encode("latin1")


class _ArrayType(_Call):
    """Stand-in for the class numpy.ndarray: an argument in these pickles, never called."""


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _NewArray(),
    ("numpy._core.multiarray", "_reconstruct"): _NewArray(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Encode(),
    ("numpy", "ndarray"): _ArrayType(),
    ("numpy", "dtype"): _NewType(),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"the name {module}.{name}, which plain data has no use for")
        return found


def read_pickle(path: Path) -> dict[str, object]:
    """Read a pickled dict of plain values and uint8 matrices; arrays come as uint8 [rows, columns], strings of Python 2 as Latin-1.

    Raises:
        DataError: missing, too large, truncated, not a dict, or holding anything but plain data (nothing of it is executed).
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, too many for a CIFAR batch: use the official files")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        _check_instructions(data)
        content = _Reader(io.BytesIO(data), encoding="latin1").load()
    # The unpickler promises no particular exception for malformed input.
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a CIFAR batch ({reason}): nothing of it was executed; use the official files") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a CIFAR batch: it holds a {type(content).__name__}, expected a dict; use the official files")
    return {str(key): _plain(value) for key, value in content.items()}


def _plain(value: object) -> object:
    return value.value if isinstance(value, _Array) else value


def _check_instructions(data: bytes) -> None:
    """Walk the pickle without executing it. Also bounds memo numbers, for which the unpickler would reserve memory unasked."""
    for instruction, argument, position in pickletools.genops(data):
        if instruction.name not in _PLAIN:
            raise pickle.UnpicklingError(f"the instruction {instruction.name}, which plain data has no use for")
        if instruction.name.endswith("PUT") and isinstance(argument, int) and not 0 <= argument <= len(data):
            raise pickle.UnpicklingError(f"memo number {argument} at byte {position}")
