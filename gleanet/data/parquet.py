"""Parquet in the image layout of the Hugging Face hub: ``train.parquet`` and ``test.parquet``, local.

An image column (``img``, ``image``, ``images``; struct{bytes, path} or binary) and a column of whole-number labels (``label``, ``labels``,
``fine_label``). Shards (``train-00000-of-00002.parquet``) are read in order. ``validation`` or ``val`` stands in for a missing ``test``.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gleanet.core.errors import DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.data import classes as names
from gleanet.data.cache import cached
from gleanet.data.cifar import TITLES, WHOLE
from gleanet.data.decode import Encoded, decode_all, encoding
from gleanet.data.images import Dataset, ImageSet, Labels, Pixels, check_labels, counts_text

IMAGE_COLUMNS = ("img", "image", "images")
LABEL_COLUMNS = ("label", "labels", "fine_label")
TEST_NAMES = ("test", "validation", "val", "valid")
MAX_CLASSES = 100_000
ROWS = 1024
# What pyarrow raises over a damaged file; ValueError covers names that are not UTF-8.
READ_ERRORS = (pa.ArrowException, OSError, ValueError)
CACHE_FORMAT = b"gleanet decoded parquet 1"


@dataclass(frozen=True)
class _Part:
    """One split, opened: its files, its columns, its labels [N] and the class names that its metadata give, if any."""

    files: tuple[Path, ...]
    image: str
    labels: Labels
    classes: tuple[str, ...] | None


def parquet_files(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]] | None:
    """(training files, test files) of ``folder``; either may be empty; None where it holds neither."""
    train = _split_files(folder, "train")
    test = next((files for name in TEST_NAMES if (files := _split_files(folder, name))), ())
    return (train, test) if train or test else None


def _split_files(folder: Path, name: str) -> tuple[Path, ...]:
    whole = folder / f"{name}.parquet"
    return (whole,) if whole.is_file() else tuple(sorted(folder.glob(f"{name}-*-of-*.parquet")))


def load_parquet(folder: Path, name: str, *, progress: Progress = SILENT) -> Dataset:
    """Read ``folder`` as a data set. Decoded images are cached by the content of the files.

    Class names: those in the Hugging Face metadata, else CIFAR's where the folder's name starts with cifar10 or cifar100, else numbers.

    Raises:
        DataError: a split is missing, a file is truncated or not Parquet, a column is missing or of another type, a row is null,
            a label is outside the classes, an image cannot be decoded or has another size.
    """
    files = parquet_files(folder) or ((), ())
    for missing in (split for split, found in zip(("train", "test"), files, strict=True) if not found):
        raise DataError(f"{folder} holds no {missing}.parquet: a data set needs train.parquet and test.parquet")
    train, test = (_open(part) for part in files)
    classes = _classes(folder, train, test)
    title, complete = _title(folder, train, test)
    sets = []
    for split, part in (("train", train), ("test", test)):
        check_labels(part.labels, len(classes), str(part.files[0]))
        images = _images(part, f"Decode {split} images", progress)
        sets.append(ImageSet(images=images, labels=part.labels, classes=classes, name=f"{title} {split}"))
    return Dataset(name=name, title=title, train=sets[0], test=sets[1], classes=classes, source=str(folder), complete=complete)


def _open(files: tuple[Path, ...]) -> _Part:
    image, label = _columns(files[0])
    labels: list[Labels] = []
    for path in files:
        if _columns(path) != (image, label):
            raise DataError(f"{path} has other columns than {files[0].name}: the shards of one split must be alike")
        try:
            with pq.ParquetFile(path) as file:
                column = file.read(columns=[label]).column(label)
        except READ_ERRORS as error:
            raise _broken(path, error) from error
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise DataError(f"{path}: row {row} has no {label}")
        labels.append(column.to_numpy().astype(np.int64))
    everything = np.concatenate(labels)
    if everything.size == 0:
        raise DataError(f"{files[0]} holds no rows")
    return _Part(files=files, image=image, labels=everything, classes=_metadata_classes(files[0], label))


def _columns(path: Path) -> tuple[str, str]:
    """Names of the image and of the label column of a file, types checked."""
    try:
        schema = pq.read_schema(path)
    except READ_ERRORS as error:
        raise _broken(path, error) from error
    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image is None or label is None:
        wanted = f"{'/'.join(IMAGE_COLUMNS)} and {'/'.join(LABEL_COLUMNS)}"
        raise DataError(f"{path} has the columns {', '.join(schema.names)}: expected {wanted}")
    kind = schema.field(image).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"{path}: column {image} is {schema.field(image).type}, expected struct<bytes, path> or binary")
    if not pa.types.is_integer(schema.field(label).type):
        raise DataError(f"{path}: column {label} is {schema.field(label).type}, expected whole numbers")
    return image, label


def _broken(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:160]
    return DataError(f"{path} is truncated or not a Parquet file ({reason}): get it again")


def _metadata_classes(path: Path, label: str) -> tuple[str, ...] | None:
    """ClassLabel names from the schema metadata that the `datasets` library writes; None where there are none or they are unreadable."""
    text = (pq.read_schema(path).metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        found = json.loads(text)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):  # names are a convenience: another shape of the metadata means no names
        return None
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        return None
    return tuple(found)


def _classes(folder: Path, train: _Part, test: _Part) -> tuple[str, ...]:
    if train.classes and test.classes and train.classes != test.classes:
        counts = f"{len(train.classes)} in {train.files[0].name}, {len(test.classes)} in {test.files[0].name}"
        raise DataError(f"{folder}: the class names of the two files differ ({counts})")
    found = train.classes or test.classes
    if found:
        return found
    highest = [int(part.labels.max()) for part in (train, test)]
    family = _family(folder)
    if family:
        known = names.CIFAR100 if family == "cifar100" else names.CIFAR10
        if max(highest) < len(known):
            return known
    if highest[1] > highest[0]:
        raise DataError(f"{folder}: training labels go up to {highest[0]}, test labels up to {highest[1]}: both must have the same classes")
    if highest[0] >= MAX_CLASSES:
        raise DataError(f"{folder}: labels go up to {highest[0]:,}, more than {MAX_CLASSES:,} classes: number the classes from 0")
    return names.numbered(highest[0] + 1)


def _family(folder: Path) -> str | None:
    """ "cifar10-jpeg" -> "cifar10"."""
    plain = folder.resolve().name.lower().replace("cifar-", "cifar").replace("cifar_", "cifar")
    return next((family for family in ("cifar100", "cifar10") if plain.startswith(family)), None)


def _title(folder: Path, train: _Part, test: _Part) -> tuple[str, bool]:
    """ "CIFAR-10 (JPEG q75)", from the folder's name and the first training image; and whether the counts are the whole set's."""
    how = encoding(next(_encoded(train)), f"{train.files[0]} row 0")
    family = _family(folder)
    if family is None:
        return f"{folder.resolve().name} ({how})", True
    counts = len(train.labels), len(test.labels)
    if counts == WHOLE:
        return f"{TITLES[family]} ({how})", True
    return f"{TITLES[family]} ({how}), a part ({counts_text(*counts)})", False


def _images(part: _Part, what: str, progress: Progress) -> Pixels:
    digest = hashlib.blake2b(CACHE_FORMAT, digest_size=20)
    for path in part.files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).digest())
    n = len(part.labels)

    def make() -> Pixels:
        return decode_all(_encoded(part), n, lambda row: _row_name(part.files, row), what=what, progress=progress)

    return cached(digest.hexdigest(), n, make, progress=progress)


def _encoded(part: _Part) -> Iterator[Encoded]:
    """The encoded images in row order, a thousand rows in memory at a time."""
    row = 0
    for path in part.files:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS, columns=[part.image]):
                    column = batch.column(0)
                    for value in (column.field("bytes") if pa.types.is_struct(column.type) else column).to_pylist():
                        if not value:
                            raise DataError(f"{_row_name(part.files, row)} has no image bytes: embed the images in the file")
                        yield value
                        row += 1
        except READ_ERRORS as error:
            raise _broken(path, error) from error


def _row_name(files: Sequence[Path], row: int) -> str:
    return f"{files[0]} row {row}" if len(files) == 1 else f"{files[0].parent} ({files[0].name} and on) row {row}"
