"""What changed between the float file and the one that is delivered: per class, per kind of mistake, and image by image."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from gleanet.core.answers import Answers, ChangedImage, Mistake
from gleanet.report import units
from gleanet.report.tables import Table

MOST_CLASSES = 20  # of a matrix that can be read
MOST_ROWS = 12  # of the tables, before more is asked for
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Shown:
    """One image: ``source`` is its address in the page, ``kind`` is lost, gained or moved."""

    source: str
    words: str
    kind: str
    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: a signed count; ``tone`` is better, worse or same, ``strength`` 0 to 3 how much of it."""

    text: str
    tone: str
    strength: int
    words: str


@dataclass(frozen=True)
class AnswersView:
    """Everything the section shows. ``matrix`` is empty for more than ``MOST_CLASSES`` classes; its row i is class i of ``classes``."""

    sentence: str
    before: str
    after: str
    images: tuple[Shown, ...]
    images_note: str
    classes: tuple[str, ...]
    matrix: tuple[tuple[Cell, ...], ...]
    per_class: Table
    mistakes: Table


def answers_view(found: Answers | None) -> AnswersView | None:
    """The section's view; None for a run that has no answers."""
    if found is None:
        return None
    return AnswersView(
        sentence=_sentence(found),
        before=found.before,
        after=found.after,
        images=tuple(_shown(image, found.classes) for image in found.changed if image.png.startswith(_SIGNATURE)),
        images_note=_images_note(found),
        classes=found.classes,
        matrix=_matrix(found),
        per_class=_per_class(found),
        mistakes=_mistakes(found),
    )


def _sentence(found: Answers) -> str:
    same = 1 - (found.lost + found.gained + found.moved) / found.n
    if not found.lost + found.gained + found.moved:
        return f"{found.before} and {found.after} give the same answer to all {found.n:,} test images."
    return (
        f"Of {found.n:,} test images, {found.after} gets {found.lost:,} wrong that {found.before} has right, and {found.gained:,} "
        f"right that it has wrong; {found.moved:,} are wrong in both, with another answer. {units.percent(same)} have the same answer."
    )


def _images_note(found: Answers) -> str:
    total = found.lost + found.gained + found.moved
    if not total:
        return ""
    shown = len(found.changed)
    return (
        f"All {total:,} are shown."
        if shown == total
        else f"{shown} of {total:,} are shown, some of each kind, spread evenly over the test set."
    )


def _shown(image: ChangedImage, classes: Sequence[str]) -> Shown:
    label, before, after = (_name(classes, index) for index in (image.label, image.before, image.after))
    kind = "lost" if image.before == image.label else "gained" if image.after == image.label else "moved"
    words = f"Test image {image.index}, {label}: before {before}, now {after}"
    return Shown(f"data:image/png;base64,{b64encode(image.png).decode()}", words, kind, label, before, after)


def _matrix(found: Answers) -> tuple[tuple[Cell, ...], ...]:
    size = len(found.classes)
    if not 0 < size <= MOST_CLASSES or found.more_mistakes:
        return ()
    moved = {(one.label, one.answer): one.after - one.before for one in found.mistakes}
    moved |= {(index, index): count.after - count.before for index, count in enumerate(found.per_class)}
    most = max((abs(number) for number in moved.values()), default=0)
    return tuple(
        tuple(_cell(found.classes, row, column, moved.get((row, column), 0), most) for column in range(size)) for row in range(size)
    )


def _cell(classes: Sequence[str], label: int, answer: int, difference: int, most: int) -> Cell:
    good = difference > 0 if label == answer else difference < 0
    tone = "same" if difference == 0 else "better" if good else "worse"
    strength = 0 if difference == 0 else 1 + min(2, 3 * abs(difference) // max(most, 1))
    return Cell(_signed(difference), tone, strength, f"{classes[label]} taken for {classes[answer]}: {_signed(difference)}")


def _per_class(found: Answers) -> Table:
    """Each class, the one that lost the most first."""
    order = sorted(range(len(found.per_class)), key=lambda i: (found.per_class[i].after - found.per_class[i].before, i))
    cells = tuple(
        (_name(found.classes, i), f"{one.n:,}", f"{one.before:,}", f"{one.after:,}", _signed(one.after - one.before))
        for i in order
        if (one := found.per_class[i]).n
    )
    header = ("Class", "Images", "Right before", "Right now", "Change")
    return Table(header, cells, "Right answers in each class", first=_ends(len(cells)))


def _ends(size: int) -> tuple[int, ...]:
    """Rows that say the most of a table sorted by change: its beginning and its end."""
    half = MOST_ROWS // 2
    return tuple(range(size)) if size <= MOST_CLASSES else (*range(half), *range(size - half, size))


def _mistakes(found: Answers) -> Table:
    """Kinds of mistakes, those whose number changed the most first."""
    ordered = sorted(found.mistakes, key=lambda one: (-abs(one.after - one.before), -one.after, one.label, one.answer))
    cells = tuple(_mistake(one, found.classes) for one in ordered)
    more = f"; {found.more_mistakes:,} rarer kinds are not kept" if found.more_mistakes else ""
    header = ("Taken for", "Instead of", "Before", "Now", "Change")
    return Table(header, cells, f"Kinds of mistakes{more}", first=tuple(range(min(MOST_ROWS, len(cells)))))


def _mistake(one: Mistake, classes: Sequence[str]) -> tuple[str, ...]:
    return (_name(classes, one.answer), _name(classes, one.label), f"{one.before:,}", f"{one.after:,}", _signed(one.after - one.before))


def _name(classes: Sequence[str], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else f"class {index}"


def _signed(number: int) -> str:
    return f"{units.MINUS if number < 0 else '+' if number > 0 else ''}{abs(number):,}"
