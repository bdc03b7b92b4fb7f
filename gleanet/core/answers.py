"""What two files say about the same labelled images: ``answers.json``, beside ``run.json``, which would grow with the pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import StoreError
from gleanet.core.records import FORMAT_VERSION, Change, read_record
from gleanet.core.stats import paired_change
from gleanet.core.store import ANSWERS

MOST_PAIRS = 400  # kinds of mistakes that are kept: all of 20 classes, the most frequent of more
SHARES = (("lost", 12), ("gained", 8), ("moved", 4))  # images that are kept of each kind; what one leaves free the next may take

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class ClassCount:
    """Images of one class, and how many of them each file got right."""

    n: int
    before: int
    after: int


@dataclass(frozen=True)
class Mistake:
    """How often images of class ``label`` were taken for class ``answer``."""

    label: int
    answer: int
    before: int
    after: int


@dataclass(frozen=True)
class ChangedImage:
    """An image whose answer changed. ``index``: its row in the test set; ``png``: a picture of it, at most 64 pixels a side."""

    index: int
    label: int
    before: int
    after: int
    png: bytes = b""


@dataclass(frozen=True)
class Answers:
    """Two files on the same images; labels and answers are class indices.

    Attributes:
        before, after: names of the files in the run's folder.
        classes: names in label order.
        images: SHA-256 of the labels, so that answers are only paired with answers to the same images in the same order.
        per_class: one entry for each class.
        mistakes: of all kinds, the most frequent first, at most ``MOST_PAIRS``; ``more_mistakes``: how many kinds were left out.
        lost, gained, moved: right before only, right after only, and wrong in two ways.
        right_before, right_after: one bit an image, the first the highest of its byte.
        changed: some of the images whose answer changed, in the order of the set.
    """

    before: str
    after: str
    classes: tuple[str, ...]
    images: str
    n: int
    per_class: tuple[ClassCount, ...]
    mistakes: tuple[Mistake, ...]
    more_mistakes: int
    lost: int
    gained: int
    moved: int
    right_before: bytes
    right_after: bytes
    changed: tuple[ChangedImage, ...] = ()
    format_version: int = FORMAT_VERSION

    def hits(self, after: bool = True) -> NDArray[np.bool_]:
        """[n] bool: where the file was right."""
        packed = np.frombuffer(self.right_after if after else self.right_before, dtype=np.uint8)
        return np.unpackbits(packed, count=self.n).astype(np.bool_)


def answers_of(files: tuple[str, str], before: Classes, after: Classes, labels: Classes, classes: Sequence[str]) -> Answers:
    """Count what changed between two files.

    Args:
        files: their names.
        before, after: [N] int64, what each says.
        labels: [N] int64, each in [0, len(classes)).

    Returns:
        the counts, and up to 24 changed images without pictures (:func:`picked`).
    """
    was, is_now = before == labels, after == labels
    mistakes = _mistakes(before, after, labels)
    return Answers(
        before=files[0],
        after=files[1],
        classes=tuple(classes),
        images=hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest(),
        n=len(labels),
        per_class=tuple(
            ClassCount(int(mine.sum()), int((mine & was).sum()), int((mine & is_now).sum()))
            for mine in (labels == index for index in range(len(classes)))
        ),
        mistakes=tuple(mistakes[:MOST_PAIRS]),
        more_mistakes=max(0, len(mistakes) - MOST_PAIRS),
        lost=int((was & ~is_now).sum()),
        gained=int((is_now & ~was).sum()),
        moved=int((~was & ~is_now & (before != after)).sum()),
        right_before=np.packbits(was).tobytes(),
        right_after=np.packbits(is_now).tobytes(),
        changed=tuple(ChangedImage(int(i), int(labels[i]), int(before[i]), int(after[i])) for i in picked(before, after, labels)),
    )


def picked(before: Classes, after: Classes, labels: Classes) -> Classes:
    """Rows of images to show, ascending: of each kind as many as ``SHARES`` says, spread evenly over the set."""
    was, is_now = before == labels, after == labels
    kinds = {"lost": was & ~is_now, "gained": is_now & ~was, "moved": ~was & ~is_now & (before != after)}
    rows = {name: np.flatnonzero(mask) for name, mask in kinds.items()}
    free = sum(share for _, share in SHARES) - sum(min(share, len(rows[name])) for name, share in SHARES)
    chosen = []
    for name, share in SHARES:
        take = min(len(rows[name]), share + free)
        free -= max(0, take - share)
        chosen.append(rows[name][np.linspace(0, len(rows[name]) - 1, take).round().astype(np.int64)] if take else rows[name][:0])
    return np.sort(np.concatenate(chosen))


def paired(one: Answers, other: Answers) -> Change | None:
    """Accuracy of ``other``'s file less that of ``one``'s, paired; None where they are not of the same images."""
    if one.images != other.images or one.n != other.n:
        return None
    return paired_change(other.hits(), one.hits())


def read_answers(folder: Path) -> Answers | None:
    """``answers.json`` of a run's folder; None where there is none, as in runs of older versions.

    Raises:
        StoreError: it is there and cannot be read, or holds something else.
    """
    file = folder / ANSWERS
    if not file.is_file():
        return None
    found = read_record(file, Answers)
    _check(found, file)
    return found


def _check(found: Answers, file: Path) -> None:
    size = -(-found.n // 8)
    if found.n <= 0 or len(found.right_before) != size or len(found.right_after) != size:
        raise StoreError(f"{file} is damaged: {found.n} images, but {len(found.right_after)} bytes of answers")


def _mistakes(before: Classes, after: Classes, labels: Classes) -> list[Mistake]:
    """Every pair (label, answer) with a mistake, the most frequent first."""
    counts: dict[tuple[int, int], list[int]] = {}
    for place, answers in enumerate((before, after)):
        wrong = answers != labels
        pairs, numbers = np.unique(np.stack([labels[wrong], answers[wrong]], axis=1), axis=0, return_counts=True)
        for (label, answer), number in zip(pairs.tolist(), numbers.tolist(), strict=True):
            counts.setdefault((label, answer), [0, 0])[place] = number
    found = [Mistake(label, answer, old, new) for (label, answer), (old, new) in counts.items()]
    return sorted(found, key=lambda one: (-one.before - one.after, one.label, one.answer))
