"""Ctrl-C, SIGTERM and SIGHUP: each stops a command in the same way, after its state was saved, and never in the middle of a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

SIGNALS: tuple[int, ...] = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """What a signal raises in the main thread; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(stop: BaseException) -> int:
    """128 and the number of the signal, as a shell has it: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


@dataclass
class Received:
    """The first signal that has come; 0: none."""

    number: int = 0

    @property
    def exit_code(self) -> int:
        """As :func:`exit_code`."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[Received]:
    """While the block runs, the first of ``SIGNALS`` raises :class:`Stopped`; one that is ignored (``nohup``) stays ignored.

    Another Ctrl-C raises it again, in case that saving hangs. Another SIGTERM or SIGHUP does not: they often come in pairs, from a closed
    terminal and from its shell. Outside the main thread, where Python delivers no signals, nothing happens.
    """
    received, before = Received(), {}

    def stop(number: int, frame: FrameType | None) -> None:
        first, received.number = not received.number, received.number or number
        if first or number == signal.SIGINT:
            raise Stopped(received.number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Deferred:
    """Holds back ``SIGNALS`` while the block runs; :meth:`deliver` hands one to the handler that was there before.

    A second Ctrl-C is not held back. Outside the main thread, where Python delivers no signals, it does nothing.

    Where several processes train (``patient``) they must stop at the same step, and torchrun sends each of them Ctrl-C a second time, or
    SIGTERM: then all of these are held back, and ignored from the moment on when the block is left by an error.

        with Deferred() as ctrl_c:
            for ...:
                step()
                ctrl_c.deliver()  # raises KeyboardInterrupt here if Ctrl-C was pressed during the step
    """

    def __init__(self, *, patient: bool = False) -> None:
        self._patient = patient
        self._before: dict[int, Any] = {}
        self._pending = 0
        self.forced = False

    @property
    def pending(self) -> bool:
        """Whether a signal is held back."""
        return self._pending != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._patient and kind is not None else before)

    def deliver(self) -> None:
        """Between steps: raise what a held-back signal would have raised."""
        if self._pending:
            number, self._pending = self._pending, 0
            self._before[number](number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._pending and not self._patient and number == signal.SIGINT:
            self.forced = True
            self._before[number](number, frame)
        self._pending = self._pending or number
