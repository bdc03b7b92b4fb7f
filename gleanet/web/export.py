"""The page as a folder that any web server can host; it appears whole or not at all."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from gleanet.core.errors import BadInput, StoreError
from gleanet.web.site import MADE_BY, RECORD, Site


def export_site(site: Site, target: Path) -> Path:
    """Write the page to ``target``: made beside it, then renamed. An earlier export there is replaced.

    Raises:
        BadInput: ``target`` is a file, or holds anything that an earlier export did not write.
        StoreError: it cannot be written; what was there is still there.
    """
    final = target.resolve()
    _check_ours(final, target)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        _write(site, scratch)
        _swap(scratch, final)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):  # renamed: nothing left to remove
            shutil.rmtree(scratch)
    return target


def _check_ours(final: Path, shown: Path) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise BadInput(f"{shown} is a file: give a folder, new or empty")
    there = {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_symlink() or not path.is_dir()}
    other = sorted(there - _written_before(final))
    if other:
        raise BadInput(f"{shown} holds {other[0]}, which gleanet did not write there: give a folder that is new or empty")


def _written_before(final: Path) -> set[str]:
    """The files that an earlier export wrote, as its record says; empty where there is none."""
    try:
        record = json.loads((final / RECORD).read_text("utf-8"))
    except (OSError, ValueError):  # no record, or not ours: then nothing there is
        return set()
    if not isinstance(record, dict) or record.get("made_by") != MADE_BY or not isinstance(record.get("files"), list):
        return set()
    return {str(name) for name in record["files"]}


def _write(site: Site, folder: Path) -> None:
    for name, content in site.files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        path.chmod(0o644)
    folder.chmod(0o755)


def _swap(scratch: Path, final: Path) -> None:
    """``scratch`` takes the place of ``final``, which comes back if that fails."""
    if not final.exists():
        scratch.replace(final)
        return
    old = scratch.with_name(f"{scratch.name}.old")
    final.replace(old)
    try:
        scratch.replace(final)
    except OSError:
        old.replace(final)
        raise
    shutil.rmtree(old)
