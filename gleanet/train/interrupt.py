"""Ctrl-C between steps, never inside one: so that what is saved on the way out is a whole step."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Deferred:
    """Holds back SIGINT while the block runs; :meth:`deliver` hands it to the handler that was there before.

    A second Ctrl-C is not held back. Outside the main thread, where Python delivers no signals, it does nothing.

        with Deferred() as ctrl_c:
            for ...:
                step()
                ctrl_c.deliver()  # raises KeyboardInterrupt here if Ctrl-C was pressed during the step
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._pending = False
        self.forced = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def deliver(self) -> None:
        """Between steps: raise what a held-back Ctrl-C would have raised."""
        if self._pending:
            self._pending = False
            self._before(signal.SIGINT, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            self.forced = True
            self._before(number, frame)
        self._pending = True
