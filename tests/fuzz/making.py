"""How the files of a case made by hand come into its folder."""

import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from tests.fuzz import specimens

Make = Callable[[Path], None]


def write(name: str, data: bytes | Callable[[], bytes]) -> Make:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data() if callable(data) else data)

    return make


def both(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def renamed(changes: dict[str, object], metadata: dict[str, object] | None = None) -> bytes:
    """Our checkpoint with another architecture record."""
    data = specimens.checkpoint()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    record = json.loads(header["__metadata__"]["gleanet"])
    record["architecture"] |= changes
    header["__metadata__"]["gleanet"] = json.dumps(record | (metadata or {}))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def save(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "m.onnx").write_bytes(model.SerializeToString())


def tar_gz(members: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    return specimens.gz(specimens.tar(members, extra))
