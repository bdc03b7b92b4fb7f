"""Class folders in the ImageNet layout: ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (or ``val``), or plain ``CLASS/*.jpg``."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gleanet.core.errors import DataError
from gleanet.core.host import memory
from gleanet.core.lazy import Lazy
from gleanet.core.progress import SILENT, Progress
from gleanet.data.cache import cached
from gleanet.data.decode import Unlike, bombs_are_errors, decode_all, encoding, reading
from gleanet.data.digits import split
from gleanet.data.images import MAX_BYTES, Dataset, ImageSet, Pixels, size_text
from gleanet.data.listing import Listing, class_folders, has_image, listing
from gleanet.data.stream import MOST_PIXELS, USUAL_SIZE, stream

TEST_NAMES = ("test", "val", "valid", "validation")
# Where a folder has no split of its own: every fifth image of a class is for testing, the same ones every time.
TRAIN_SHARE = 0.8
SPLIT_SEED = 0
CACHE_FORMAT = b"gleanet decoded folder 2"


SMALL = 2**14  # bytes of a file whose content belongs to the key of the cache
MEMORY_SHARE = 4  # a folder that takes more than this part of the memory is streamed


def holds_class_folders(folder: Path) -> bool:
    """Whether ``folder`` has ``train/`` with folders in it, or folders with images in them."""
    return bool(class_folders(folder / "train")) or any(has_image(inner) for inner in class_folders(folder))


def load_folder(
    folder: Path, name: str, *, image_size: int | None = None, usual_size: int = USUAL_SIZE, progress: Progress = SILENT
) -> Dataset:
    """Read class folders as a data set; classes in alphabetical order.

    ``train`` and ``test`` (or ``val`` where there is no ``test`` with class folders); a folder without them is split 80/20 per class.

    Images of one size that take less than a quarter of the memory are decoded at once, and cached until a file in the folder changes.
    Others are streamed (:mod:`gleanet.data.stream`), and every one of them becomes ``usual_size`` pixels square.

    Args:
        image_size: the side that the images must have, in pixels; they are streamed unless they all have it.

    Raises:
        DataError: a split is missing, the two splits have different classes, a class has no images, an image cannot be decoded. Of a
            streamed folder only the first image is looked at here.
    """
    given = (folder / "train").is_dir()
    parts = _given_split(folder) if given else (listing(folder),)
    how = encoding(parts[0].path(0), str(parts[0].path(0)))
    found = _decoded(parts, image_size, progress)
    if isinstance(found, str):
        size = image_size or usual_size
        progress.say(f"{folder}: {found}, so the images are streamed and cut to {size}x{size}")
        how += f", cut to {size}x{size}"
        pixels: Sequence[Pixels | Lazy] = [stream(part, size) for part in parts]
    else:
        pixels = found
    title = f"{folder.resolve().name} ({how if given else f'{how}, split 80/20'})"
    names = [f"{title} {part.root.name}" for part in parts] if given else [title]
    sets = [ImageSet(each, part.labels, part.classes, text) for each, part, text in zip(pixels, parts, names, strict=True)]
    if not given:
        sets = [sets[0].subset(indices) for indices in split(parts[0].labels, TRAIN_SHARE, SPLIT_SEED) if indices.size]
    if len(sets) < 2:
        raise DataError(f"{folder}: every class has a single image, which leaves none to test on: add images, or train/ and test/")
    return Dataset(name=name, title=title, train=sets[0], test=sets[1], classes=sets[0].classes, source=str(folder), complete=True)


def _given_split(folder: Path) -> tuple[Listing, Listing]:
    test_root = next((folder / name for name in TEST_NAMES if class_folders(folder / name)), None)
    if test_root is None:
        raise DataError(f"{folder} has train/, but neither test/ nor val/ with one folder per class: put the test images there")
    train, test = listing(folder / "train"), listing(test_root)
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        shown = ", ".join(odd[:5]) + (", ..." if len(odd) > 5 else "")
        counts = f"train/ has {len(train.classes)} classes, {test_root.name}/ has {len(test.classes)}"
        raise DataError(f"{folder}: {counts}; only in one of them: {shown}: both need the same class folders")
    return train, test


def _decoded(parts: Sequence[Listing], image_size: int | None, progress: Progress) -> list[Pixels] | str:
    """The pixels of each part, whole; or why they must be streamed."""
    first = parts[0].path(0)
    with bombs_are_errors(), reading(first, str(first), MOST_PIXELS) as image:
        width, height = image.size
    if image_size is not None and (width, height) != (image_size, image_size):
        return f"{first} is {width}x{height}"
    need, most = sum(map(len, parts)) * 3 * width * height, min(memory() // MEMORY_SHARE, MAX_BYTES)
    if need > most:
        return f"decoded they take {need / 2**30:.1f} GiB, more than {most / 2**30:.1f}"
    whats = [f"Decode {part.root.name} images" for part in parts] if len(parts) > 1 else ["Decode images"]
    try:
        found = [_images(part, what, progress) for part, what in zip(parts, whats, strict=True)]
    except Unlike as reason:
        return str(reason).split(": ")[0]
    sizes = [size_text(pixels) for pixels in found]
    return found if len(set(sizes)) == 1 else f"training images are {sizes[0]}, test images {sizes[1]}"


def _images(part: Listing, what: str, progress: Progress) -> Pixels:
    def make() -> Pixels:
        return decode_all(part.paths(), len(part), lambda row: str(part.path(row)), what=what, progress=progress)

    return cached(_key(part), len(part), make, progress=progress)


def _key(part: Listing) -> str:
    """Names the content by every file's path, size, times, inode and, where it is small, its bytes (to hash large files takes too long)."""
    digest = hashlib.blake2b(CACHE_FORMAT, digest_size=20)
    digest.update(str(part.root.resolve()).encode("utf-8", "surrogateescape"))
    for row, path in enumerate(part.paths()):
        status = path.stat()
        times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}"
        digest.update(f"\0{part.name(row)}\0{status.st_size}\0{times}".encode("utf-8", "surrogateescape"))
        if status.st_size <= SMALL:
            digest.update(path.read_bytes())
    return digest.hexdigest()
