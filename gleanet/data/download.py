"""Downloads that resume and are checked, and archives that can only unpack the files they should hold."""

import gzip
import http.client
import io
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

import pooch

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Advance, Progress
from gleanet.core.turns import alone

ATTEMPTS = 3
BLOCK = 2**18
TIMEOUT_S = 20
MAX_MEMBER_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Archive:
    """A .tar.gz on the web. ``folder`` is the one folder in it; ``files`` the files of that folder that are wanted."""

    file: str
    url: str
    md5: str
    folder: str
    files: tuple[str, ...]


def download(archive: Archive, folder: Path, *, progress: Progress = SILENT) -> Path:
    """Download ``archive`` into ``folder``, or go on with a download that was interrupted, and check its md5.

    Returns:
        The path of the whole, checked archive (at once if it is already there).

    Raises:
        DataError: no network, a server that refuses, a connection lost for good, or a wrong checksum (the file is then removed).
    """
    return fetch(archive.url, f"md5:{archive.md5}", folder / archive.file, progress=progress)


def fetch(url: str, known_hash: str, target: Path, *, progress: Progress = SILENT) -> Path:
    """Download ``url`` to ``target``, or go on with a download that was interrupted; at once where it is already there.

    Of several processes one downloads; the others wait for it and take its file.

    Args:
        known_hash: ``algorithm:hexadecimal digest`` that the whole file must have.

    Raises:
        DataError: no network, a server that refuses, a connection lost for good, or a wrong checksum (the file is then removed).
    """
    part = target.with_name(f"{target.name}.part")
    try:
        if _has_hash(target, known_hash):
            return target
        with alone(part, lambda: progress.say(f"waiting for another process that downloads {target.name}")) as locked:
            if locked:
                _fetch_checked(url, known_hash, part, target, progress)
            else:  # a part of its own for each process, which no other one appends to and none resumes
                part = target.with_name(f"{target.name}.{os.getpid()}.part")
                try:
                    _fetch_checked(url, known_hash, part, target, progress)
                finally:
                    part.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"cannot download {url} ({' '.join(str(reason).split())})") from error
    return target


def _fetch_checked(url: str, known_hash: str, part: Path, target: Path, progress: Progress) -> None:
    if _has_hash(target, known_hash):  # another process was faster
        return
    _fetch(url, part, target.name, progress)
    if not _has_hash(part, known_hash):
        part.unlink()  # it cannot be resumed
        shown = known_hash.replace(":", " ", 1)
        raise DataError(f"{url} does not have the {shown} that it should: try again, or get the file elsewhere")
    part.replace(target)


def _has_hash(path: Path, known_hash: str) -> bool:
    algorithm, _, digest = known_hash.partition(":")
    return path.is_file() and pooch.file_hash(str(path), alg=algorithm) == digest


def _fetch(url: str, part: Path, what: str, progress: Progress) -> None:
    """Append to ``part`` until it is whole. A lost connection is taken up again where it broke; HTTP errors are final."""
    if part.is_symlink():
        part.unlink()  # what it leads to is not ours to write
    for attempt in range(1, ATTEMPTS + 1):
        have = part.stat().st_size if part.exists() else 0
        try:
            _fetch_once(url, part, have, what, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code != 416 or attempt == ATTEMPTS:
                raise
            part.unlink(missing_ok=True)  # 416: the part is longer than the file, so it is another file's
        except (ConnectionError, TimeoutError, http.client.HTTPException):
            if attempt == ATTEMPTS:
                raise


def _fetch_once(url: str, part: Path, have: int, what: str, progress: Progress) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        resumed = response.status == 206
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        with progress.task(f"Download {what}", total, "bytes") as advance, part.open("ab" if resumed else "wb") as file:
            advance(start)
            _copy(response, file, advance)
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"connection lost after {part.stat().st_size:,} of {total:,} bytes; run it again to go on from there")


def _copy(source: IO[bytes], target: IO[bytes], advance: Advance) -> None:
    while block := source.read(BLOCK):
        target.write(block)
        advance(len(block))


def checksum(path: Path) -> str:
    """The md5 of a file, hexadecimal."""
    return str(pooch.file_hash(str(path), alg="md5"))


def unpack(path: Path, archive: Archive, target: Path) -> Path:
    """Unpack the wanted files of the archive at ``path`` into ``target / archive.folder``; it appears whole or not at all.

    Only plain files directly in ``archive.folder`` are written, under names from ``archive.files``; a member that is a link or a device, or
    that points outside that folder, refuses the whole archive.

    Raises:
        DataError: a broken archive, a member that does not belong there, or a wanted file that is missing.
    """
    final = target / archive.folder
    target.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{archive.folder}.", dir=target))
    try:
        _unpack_into(path, archive, scratch)
        scratch.chmod(0o755)
        if final.exists():
            shutil.rmtree(final)
        scratch.replace(final)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is not a whole .tar.gz ({error}): remove it and try again") from error
    finally:
        with suppress(FileNotFoundError):  # renamed: nothing left to remove
            shutil.rmtree(scratch)
    return final


class _Bounded(io.BufferedReader):
    """A stream that hands out no more in one piece than any file in these archives has: tarfile reads headers whole, however long."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


def _unpack_into(path: Path, archive: Archive, scratch: Path) -> None:
    with gzip.open(path) as unzipped, tarfile.open(fileobj=_Bounded(unzipped), mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.rstrip("/").partition("/")
            plain = (member.isdir() and not name) or (member.isfile() and name and "/" not in name)
            if folder != archive.folder or not plain or member.size > MAX_MEMBER_BYTES:
                raise DataError(f"{path} holds {member.name!r}, which does not belong into {archive.folder}: nothing was unpacked")
            content = tar.extractfile(member)
            if name in archive.files and content is not None:
                with content, (scratch / name).open("wb") as out:
                    shutil.copyfileobj(content, out)
    missing = [name for name in archive.files if not (scratch / name).is_file()]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: remove it and try again")
