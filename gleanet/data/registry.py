"""From what the user typed to a data set in memory."""

import os
from pathlib import Path

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.data.cifar import layout_of, load_official
from gleanet.data.digits import load_digits
from gleanet.data.folder import holds_class_folders, load_folder
from gleanet.data.images import Dataset
from gleanet.data.original import ORIGINALS, load_original
from gleanet.data.parquet import load_parquet, parquet_files
from gleanet.data.stream import USUAL_SIZE

LAYOUTS_TEXT = "train.parquet and test.parquet, the official CIFAR files, or train/ and test/ with one folder per class"


def load(name_or_path: str, *, image_size: int | None = None, usual_size: int = USUAL_SIZE, progress: Progress = SILENT) -> Dataset:
    """Load a data set whole, decoded, into memory; a folder of image files that is too large for that, or has images of different sizes, is
    streamed: see :func:`gleanet.data.folder.load_folder`.

    Args:
        name_or_path: ``digits`` (inside scikit-learn, needs no download), ``cifar10`` or ``cifar100`` (always the complete, original sets:
            from $GLEANET_DATA, the cache, or downloaded), the name of a folder in $GLEANET_DATA, or the path of a folder. A folder is
            recognised by what it holds: Parquet in the Hugging Face image layout, official CIFAR files, or class folders.
        image_size: side of the images in pixels: class folders with others are streamed and cut to it. Data in other forms is as it is.
        usual_size: the same where a folder must be streamed and ``image_size`` is None: what the network was made for.

    Raises:
        DataError: no such data set (those that exist are listed), a folder of unknown layout, a broken or incomplete file.
    """
    if name_or_path == "digits":
        return load_digits()
    root = data_root()
    if name_or_path in ORIGINALS:
        return load_original(ORIGINALS[name_or_path], root, progress=progress)
    folder = _find(name_or_path, root)
    name = folder.resolve().name
    try:
        if not _in_one_file(folder) and holds_class_folders(folder):
            return load_folder(folder, name, image_size=image_size, usual_size=usual_size, progress=progress)
        return _load_folder(folder, name, progress)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error


def available() -> tuple[str, ...]:
    """The names that :func:`load` knows here: the built-in ones, then the folders of $GLEANET_DATA that hold a known layout."""
    root = data_root()
    builtin = ("digits", *ORIGINALS)
    if root is None:
        return builtin
    folders = (path for path in sorted(root.iterdir()) if path.is_dir() and path.name not in builtin)
    return builtin + tuple(path.name for path in folders if _layout_known(path))


def data_root() -> Path | None:
    """The folder that $GLEANET_DATA names, or None where it is not set.

    Raises:
        DataError: it is set, but is not a folder.
    """
    value = os.environ.get("GLEANET_DATA")
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise DataError(f"GLEANET_DATA is {value!r}, which is not a folder: correct it or unset it")
    return root


def _find(name_or_path: str, root: Path | None) -> Path:
    """A folder of $GLEANET_DATA by its name, else a path."""
    plain = name_or_path not in ("", ".", "..") and "/" not in name_or_path and os.sep not in name_or_path
    if root is not None and plain and (root / name_or_path).is_dir():
        return root / name_or_path
    path = Path(name_or_path).expanduser()
    if name_or_path and path.is_dir():
        return path
    if name_or_path and path.exists():
        raise DataError(f"{name_or_path} is a file: give the folder that holds {LAYOUTS_TEXT}")
    where = f"in GLEANET_DATA ({root})" if root else "(set GLEANET_DATA to a folder of data sets for more)"
    raise DataError(
        f"no data set {name_or_path!r}: there is no such folder; known are {', '.join(available())} {where}, or give a path",
        slug="data-not-found",
    )


def _layout_known(folder: Path) -> bool:
    return _in_one_file(folder) or holds_class_folders(folder)


def _in_one_file(folder: Path) -> bool:
    return bool(parquet_files(folder) or layout_of(folder))


def _load_folder(folder: Path, name: str, progress: Progress) -> Dataset:
    if parquet_files(folder):
        return load_parquet(folder, name, progress=progress)
    layout = layout_of(folder)
    if layout:
        return load_official(folder, name, layout)
    content = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise DataError(f"{folder} holds no data set that gleanet knows (found: {content}): expected {LAYOUTS_TEXT}", slug="data-layout")
