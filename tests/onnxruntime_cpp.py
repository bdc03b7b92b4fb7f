"""ONNX Runtime for C++, laid out as its releases are: the headers from Debian's package, the library from Python's."""

import lzma
import os
import shutil
import tarfile
from pathlib import Path

import onnxruntime

from gleanet.data import cache_dir
from gleanet.data.download import fetch

# Debian 13's. The headers of an older version go with the library of a newer one: the program asks it for their version of the interface.
PACKAGE = "libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb"
URL = f"https://deb.debian.org/debian/pool/main/o/onnxruntime/{PACKAGE}"
SHA256 = "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08"
VARIABLE = "ONNXRUNTIME_INCLUDE"  # names a folder with headers of another version
_MAX_BYTES = 2**24


def lay_out(folder: Path) -> None:
    """Fill ``folder`` with ``include`` and ``lib``, as an unpacked release has them.

    Raises:
        DataError: the headers are not in the user's cache, and cannot be downloaded.
        FileNotFoundError: the Python package has no library of its own, as outside Linux.
    """
    link_library(folder / "lib")
    given = os.environ.get(VARIABLE)
    if given:
        shutil.copytree(given, folder / "include")
    else:
        _unpack(fetch(URL, f"sha256:{SHA256}", cache_dir() / PACKAGE), folder / "include")


def link_library(folder: Path) -> None:
    """The library of the Python package under the names that a linker looks for, and a program then does.

    Raises:
        FileNotFoundError: it has none of its own, as outside Linux.
    """
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if library is None:
        raise FileNotFoundError("this build of the Python package onnxruntime has no libonnxruntime.so")
    folder.mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)


def _unpack(package: Path, target: Path) -> None:
    """A .deb is an ``ar`` archive: after 8 bytes, members of a 60-byte header (the name first, the size from byte 48) and even length."""
    raw, at = package.read_bytes(), 8
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip(), int(raw[at + 48 : at + 58])
        if name == "data.tar.xz":
            break
        at += 60 + size + size % 2
    scratch = target.with_name("data.tar")
    scratch.write_bytes(lzma.LZMADecompressor().decompress(raw[at + 60 : at + 60 + size], max_length=_MAX_BYTES))
    target.mkdir()
    with tarfile.open(scratch) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).parent.name == "onnxruntime" and member.name.endswith(".h"):
                (target / Path(member.name).name).write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    scratch.unlink()
