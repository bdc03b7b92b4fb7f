"""How long work reports how far it is. Stages call it; the command line draws it; libraries pass nothing and see nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from gleanet.core.records import CurvePoint

Advance = Callable[[int], None]


class Progress(Protocol):
    """Something that can show tasks: ``with progress.task("Calibrate", 512, "images") as advance: advance(64)``."""

    def task(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """Open a task of ``total`` units (None: unknown). The yielded function takes the units done since the last call."""

    def say(self, line: str) -> None:
        """Show one line beside the bars."""


@runtime_checkable
class Listener(Protocol):
    """A progress that also wants the points of learning curves, as they come."""

    def point(self, curve: str, point: CurvePoint) -> None:
        """One more point of the curve of that name."""


class _Silent:
    @contextmanager
    def task(self, what: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda units: None

    def say(self, line: str) -> None:
        return None


SILENT: Progress = _Silent()
