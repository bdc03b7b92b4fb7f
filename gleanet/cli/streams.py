"""Standard output and standard error that never end the work: a closed pipe, a terminal that is gone or a full disk stops no training."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)  # nobody reads any more (`| head`, a closed terminal): nothing is wrong


class _Raw(io.FileIO):
    """A descriptor that takes everything; ``trouble`` is the last error of the system."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.trouble: OSError | None = None

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            self.trouble = error
            return len(data)


class Output:
    """Standard output while :func:`lasting` holds."""

    def __init__(self, raw: _Raw | None) -> None:
        self._raw = raw

    def trouble(self) -> OSError | None:
        """Why what was printed is not complete; None where it is, and where nobody reads it."""
        sys.stdout.flush()
        found = None if self._raw is None else self._raw.trouble
        return None if found is None or found.errno in GONE else found


@contextmanager
def lasting() -> Iterator[Output]:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams whose errors stay without effect.

    Descriptors that are closed (``>&-``) are opened to nowhere first: the next file that is opened would take their number, and what a
    library prints would end in it.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, out = _lasting(before[0])
    sys.stderr, _ = _lasting(before[1])
    try:
        yield Output(out)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None) -> tuple[TextIO, _Raw | None]:
    """``stream`` on a descriptor that takes everything. One that is no plain file of the system (a test's, a console of Windows) stays."""
    if stream is None:  # the descriptor was closed when Python started; something else may have its number by now
        raw = _Raw(os.open(os.devnull, os.O_WRONLY))
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True), raw
    if type(stream) is not io.TextIOWrapper or sys.platform == "win32":
        return stream, None
    stream.flush()
    raw = _Raw(stream.fileno())
    buffered = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=buffered), raw


def _open_closed() -> None:
    for descriptor in (0, 1, 2):  # in this order: the system gives the lowest number that is free
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
