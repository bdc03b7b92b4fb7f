"""The npm package onnxruntime-web: where it is, and how it comes here. One version, its checksum known; three of its files are used."""

import json
import os
import shutil
import tarfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from gleanet.core.errors import BadInput, DataError, StoreError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.turns import alone
from gleanet.data import cache_dir
from gleanet.data.download import fetch

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
# The registry's "integrity" of this version, from base64 to hexadecimal.
SHA512 = "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
VARIABLE = "GLEANET_ORT_WEB"
# Name on our page -> name in the package. The page's end in .js: some web servers do not know .mjs, and a module needs its type.
FILES = {
    "ort/ort.js": "dist/ort.wasm.min.mjs",
    "ort/ort-wasm.js": "dist/ort-wasm-simd-threaded.mjs",
    "ort/ort-wasm.wasm": "dist/ort-wasm-simd-threaded.wasm",
}
_WANTED = ("package.json", *FILES.values())
_MAX_MEMBER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class OrtWeb:
    """The package's folder, as npm unpacks it, and its version."""

    folder: Path
    version: str


def find_ort(given: Path | None = None) -> OrtWeb:
    """The package: in the folder ``given``, else in that of $GLEANET_ORT_WEB, else in the user's cache.

    Raises:
        BadInput: not there, or a folder that does not hold it; says how to get it.
    """
    named = os.environ.get(VARIABLE)
    folder = given or (Path(named).expanduser() if named else _unpacked())
    missing = [name for name in _WANTED if not (folder / name).is_file()]
    if not missing:
        return OrtWeb(folder, _version(folder))
    if given is None and not named:
        raise BadInput(f"onnxruntime-web is not here yet: `gleanet serve --setup` gets it (once, 33 MB), or {_npm()}")
    which = "--ort-web" if given else VARIABLE
    raise BadInput(f"{which} is {folder}, which has no {missing[0]}: give the folder node_modules/onnxruntime-web, as npm makes it")


def setup_ort(*, progress: Progress = SILENT, url: str = URL, sha512: str = SHA512) -> OrtWeb:
    """Download the package into the user's cache, check it, unpack the files that are used; at once where they are there.

    Args:
        url, sha512: where from, and the checksum that it must have.

    Raises:
        DataError: no network, a wrong checksum or a broken archive; says which file to put where.
        StoreError: the cache cannot be written.
    """
    folder, archive = _unpacked(), cache_dir() / f"onnxruntime-web-{VERSION}.tgz"
    if _is_there(folder):
        return find_ort(folder)
    try:
        with alone(folder, lambda: progress.say("waiting for another process that gets onnxruntime-web")):
            if not _is_there(folder):
                fetch(url, f"sha512:{sha512}", archive, progress=progress)
                unpack_package(archive, folder)
                archive.unlink()
    except DataError as error:
        again = f"put {url} from a machine with network at {archive} and run `gleanet serve --setup` again"
        raise DataError(f"{error}; {again}, or {_npm()}") from error
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}; choose another cache with GLEANET_CACHE") from error
    return find_ort(folder)


def _is_there(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _WANTED)


def unpack_package(archive: Path, folder: Path) -> None:
    """Unpack what is used of the npm archive into ``folder``, which appears whole or not at all.

    Every other member is passed over, whatever its name; a used one must be a plain file of at most 64 MiB.

    Raises:
        DataError: a broken archive, a used member that is a link or too large, or one that is missing.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _unpack(tar, archive, scratch)
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.replace(folder)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is not a whole .tgz ({error}): remove it") from error
    finally:
        with suppress(FileNotFoundError):  # renamed: nothing left to remove
            shutil.rmtree(scratch)


def _unpack(tar: tarfile.TarFile, archive: Path, scratch: Path) -> None:
    found = set()
    for member in tar:
        top, _, name = member.name.partition("/")
        if top != "package" or name not in _WANTED:
            continue
        content = tar.extractfile(member) if member.isfile() and member.size <= _MAX_MEMBER_BYTES else None
        if content is None or name in found:
            raise DataError(f"{archive} holds {member.name!r} as no plain file of its own: nothing was unpacked")
        found.add(name)
        target = scratch / name
        target.parent.mkdir(exist_ok=True)
        with content, target.open("wb") as out:
            shutil.copyfileobj(content, out)
    missing = [name for name in _WANTED if name not in found]
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}: it is not onnxruntime-web {VERSION}")


def _unpacked() -> Path:
    return cache_dir() / f"onnxruntime-web-{VERSION}"


def _npm() -> str:
    return f"`npm install onnxruntime-web@{VERSION}` and give its folder with --ort-web or {VARIABLE}"


def _version(folder: Path) -> str:
    file = folder / "package.json"
    try:
        package = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {file} ({error}): install onnxruntime-web again") from error
    name = package.get("name") if isinstance(package, dict) else None
    if name != "onnxruntime-web":
        raise BadInput(f"{file} is that of {name!r}: give the folder of onnxruntime-web")
    return str(package.get("version", "of unknown version"))
