import os
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gleanet.core.errors import DataError
from gleanet.data.pickles import read_pickle
from tests.data.tiny import noise


class _Runs:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.what = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.what


@pytest.mark.parametrize("writer", ["Python 2", 0, 1, 2, 3, 4, 5])
def test_reads_plain_data_whoever_wrote_it(tmp_path: Path, writer: int | str) -> None:
    data = noise(4).reshape(4, -1)
    content = {"data": data, "labels": [1, 2, 3, 255], "names": ("a", "b"), "share": 0.5, "none": None}
    written = pickle.dumps(content, protocol=writer) if isinstance(writer, int) else _as_python_2(content, data)
    (tmp_path / "p").write_bytes(written)
    read = read_pickle(tmp_path / "p")
    array = read.pop("data")
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, data)
    assert read == {key: value for key, value in content.items() if key != "data"}


def _as_python_2(content: dict[str, object], data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """The array as Python 2 pickled it (its bytes as a plain string), the rest as Python 3 does in protocol 2."""
    rest = pickle.dumps({key: value for key, value in content.items() if key != "data"}, protocol=2)
    raw = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I%d\nI%d\nt" % data.shape
    array += b"cnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\nT" + struct.pack("<i", len(raw)) + raw + b"tb"
    assert rest.endswith(b".")
    return rest[:-1] + b"U\x04data" + array + b"s."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.system, subprocess.getoutput, eval])
def test_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int, call: Callable[..., object]) -> None:
    mark = tmp_path / "it ran"
    text = f"open({str(mark)!r}, 'w').close()" if call is eval else f"touch '{mark}'"
    evil = pickle.dumps({"data": _Runs(call, text), "labels": [0]}, protocol=protocol)
    pickle.loads(evil)  # noqa: S301 - shows that the attack works on an unrestricted reader
    assert mark.exists()
    mark.unlink()
    (tmp_path / "p").write_bytes(evil)
    with pytest.raises(DataError, match=r"the name .*, which plain data has no use for\): nothing of it was executed"):
        read_pickle(tmp_path / "p")
    assert not mark.exists()


HOSTILE = {
    "old-style instance": b"(S'true'\nios\nsystem\n.",
    "object": b"(cnumpy\nndarray\nI1\no.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "numpy function": b"cnumpy\nload\n.",
    "numpy attribute": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "other encoding": b"c_codecs\nencode\n(U\x01aU\x05utf-7tR.",
    "builtin": b"cbuiltins\neval\n.",
    "persistent id": b"Pname\n.",
    "extension": b"\x80\x02\x82\x01.",
    "calls the array type": b"cnumpy\nndarray\n(I1000000000000\ntR.",
    "sets attributes of a name": b"cnumpy\ndtype\n(N}U\x08__call__I1\nstb.",
    "huge memo number": b"}r\xff\xff\xff\x7f.",
    "huge string": b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "truncated": b"\x80\x02}U\x04data",
    "empty": b"",
    "text": b"hello, this is no pickle",
    "not a dict": b"]I1\na.",
    "unhashable key": b"}]I1\ns.",
}


def test_hostile_instructions_are_found_before_the_unpickler_sees_them(tmp_path: Path) -> None:
    for name, reason in (("huge memo number", "memo number 2147483647"), ("old-style instance", "instruction INST"), ("extension", "EXT1")):
        (tmp_path / "p").write_bytes(HOSTILE[name])
        with pytest.raises(DataError, match=reason):
            read_pickle(tmp_path / "p")


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_and_hostile_pickles_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "p").write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match="not a CIFAR batch") as caught:
        read_pickle(tmp_path / "p")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int8), np.zeros(3, np.uint8), np.array([[None]])])
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps({"data": array}, protocol=4))
    with pytest.raises(DataError, match="an array of"):
        read_pickle(tmp_path / "p")


@pytest.mark.parametrize("protocol", [4, 5])
def test_fortran_order_is_understood(tmp_path: Path, protocol: int) -> None:
    array = np.asfortranarray(noise(2, 2, 2).reshape(2, 12))
    (tmp_path / "p").write_bytes(pickle.dumps({"data": array}, protocol=protocol))
    read = read_pickle(tmp_path / "p")["data"]
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, array)


def test_a_file_too_large_for_a_batch_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "p").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(DataError, match="too many for a CIFAR batch"):
        read_pickle(tmp_path / "p")
