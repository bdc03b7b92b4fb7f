"""Ctrl-C between steps, never inside one: so that what is saved on the way out is a whole step."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Deferred:
    """Holds back SIGINT while the block runs; :meth:`deliver` hands it to the handler that was there before.

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
            for number in (signal.SIGINT, signal.SIGTERM) if self._patient else (signal.SIGINT,):
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._patient and kind is not None else before)

    def deliver(self) -> None:
        """Between steps: raise what a held-back Ctrl-C would have raised."""
        if self._pending:
            number, self._pending = self._pending, 0
            self._before[number](number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._pending and not self._patient:
            self.forced = True
            self._before[number](number, frame)
        self._pending = number
