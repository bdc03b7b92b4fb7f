"""``cifar10`` and ``cifar100``: always the complete, original sets, wherever they have to come from.

Looked for in $GLEANET_DATA, then in the user's cache, then downloaded. A part of a set, or the same images re-encoded, never passes for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.turns import alone
from gleanet.data.cache import cache_dir
from gleanet.data.cifar import WHOLE, layout_of, load_official
from gleanet.data.download import Archive, checksum, download, unpack
from gleanet.data.images import Dataset, counts_text


@dataclass(frozen=True)
class Original:
    """A complete official set: where it may lie, where it comes from, and how many (train, test) images make it complete."""

    name: str
    title: str
    folders: tuple[str, ...]
    archive: Archive
    whole: tuple[int, int] = WHOLE


_SITE = "https://www.cs.toronto.edu/~kriz/"
ORIGINALS = {
    "cifar10": Original(
        name="cifar10",
        title="CIFAR-10",
        folders=("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10"),
        archive=Archive(
            file="cifar-10-python.tar.gz",
            url=_SITE + "cifar-10-python.tar.gz",
            md5="c58f30108f718f92721af3b95e74349a",
            folder="cifar-10-batches-py",
            files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        ),
    ),
    "cifar100": Original(
        name="cifar100",
        title="CIFAR-100",
        folders=("cifar-100-python", "cifar-100-binary", "cifar100"),
        archive=Archive(
            file="cifar-100-python.tar.gz",
            url=_SITE + "cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            folder="cifar-100-python",
            files=("train", "test", "meta"),
        ),
    ),
}


def load_original(original: Original, root: Path | None, *, progress: Progress = SILENT) -> Dataset:
    """The complete set, from ``root`` ($GLEANET_DATA), the cache, an archive lying in either, or the web.

    Raises:
        DataError: in none of these places, and the download failed; says which file to put where, and what incomplete folder was found.
    """
    cache = cache_dir()
    places = [place for place in (root, cache) if place is not None]
    dataset, unsuitable = _there(original, places)
    if dataset is not None:
        return dataset
    try:
        with alone(cache / original.archive.folder, lambda: progress.say(f"waiting for another process that gets {original.title}")):
            dataset, unsuitable = _there(original, places)
            if dataset is not None:
                return dataset
            path = _archive_at(original, places, unsuitable) or download(original.archive, cache, progress=progress)
            folder = unpack(path, original.archive, cache)
    except (DataError, OSError) as error:
        raise DataError(_advice(original, root, cache, str(error), unsuitable)) from error
    dataset, problem = _complete(original, folder)
    if dataset is None:
        raise DataError(_advice(original, root, cache, f"the archive was not the complete set: {problem}", unsuitable))
    return dataset


def _there(original: Original, places: Sequence[Path]) -> tuple[Dataset | None, list[str]]:
    """The complete set where one of the places has it unpacked; else None, and what was found instead."""
    unsuitable: list[str] = []
    for folder in _candidates(original, places):
        dataset, problem = _complete(original, folder)
        if dataset is not None:
            return dataset, []
        unsuitable.append(problem)
    return None, unsuitable


def _candidates(original: Original, places: Sequence[Path]) -> Iterator[Path]:
    """Folders by the known names, and one level below them (``cifar10/cifar-10-batches-py``)."""
    for place in places:
        for name in original.folders:
            if (place / name).is_dir():
                yield place / name
                yield from (place / name / inner for inner in original.folders[:2] if (place / name / inner).is_dir())


def _complete(original: Original, folder: Path) -> tuple[Dataset | None, str]:
    """The data set in ``folder`` if it is the complete set; else None and what it is instead."""
    layout = layout_of(folder)
    if layout is None or layout.family != original.name:
        return None, f"{folder} does not hold the official {original.title} files"
    try:
        dataset = load_official(folder, original.name, layout, original.whole)
    except DataError as error:
        return None, str(error)
    if dataset.complete:
        return dataset, ""
    counts = counts_text(len(dataset.train), len(dataset.test))
    return None, f"{folder} is incomplete: it holds {counts}, the whole set has {counts_text(*original.whole)}"


def _archive_at(original: Original, places: Sequence[Path], unsuitable: list[str]) -> Path | None:
    """An official archive that somebody has put into one of the places; one with another checksum is reported in ``unsuitable``."""
    for path in (place / original.archive.file for place in places):
        if path.is_file():
            if checksum(path) == original.archive.md5:
                return path
            unsuitable.append(f"{path} does not have the md5 {original.archive.md5}")
    return None


def _advice(original: Original, root: Path | None, cache: Path, problem: str, unsuitable: Sequence[str]) -> str:
    file, folder = original.archive.file, original.archive.folder
    where = f"{root} or {cache}" if root else f"{cache} (or into a folder that GLEANET_DATA names)"
    found = f"; found, but not usable: {'; '.join(unsuitable)}" if unsuitable else ""
    return f"{original.name}: {problem}; put {file} from {original.archive.url}, or its folder {folder}, into {where}{found}"
