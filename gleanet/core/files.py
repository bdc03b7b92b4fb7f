"""Files that are either whole or absent: written to a temporary name beside the target, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from gleanet.core.errors import StoreError

PART = ".part"
_ONNX = (".onnx", ".onnxtxt", ".onnxjson", ".ort")


def is_onnx(name: str | Path) -> bool:
    """Whether a file's name ends as those of ONNX networks do, in any case; which of their forms it has shows when it is read."""
    return Path(name).suffix.lower() in _ONNX


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``: on success it takes the target's place, on any failure it goes and the target is untouched.

    Raises:
        StoreError: the folder cannot be written (read-only, disk full).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = mkstemp(prefix=f".{target.name}.", suffix=PART, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target`` atomically."""
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left in ``folder`` and below. Only for who holds the folder's lock.

    Raises:
        StoreError: one of them cannot be removed.
    """
    for leftover in folder.rglob(f".*{PART}"):
        try:
            leftover.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove {leftover}: {error.strerror}") from error
