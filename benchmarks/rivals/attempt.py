"""One attempt of a rival: what it took, or why it failed. A failure is a result too, so that one refused case does not hide the others."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def timed(name: str, file: Path, work: Callable[[], object]) -> dict[str, Any]:
    """Seconds of ``work``, which writes ``file``, and peak resident bytes of the process so far."""
    begin, error = time.perf_counter(), ""
    try:
        work()
    except Exception as reason:
        error = f"{type(reason).__name__}: {' '.join(str(reason).split())[:300]}"
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stderr.write(f"{name}: {seconds:.2f} s {error}\n")
    return {"name": name, "file": None if error else str(file), "seconds": seconds, "peak_bytes": peak, "error": error}
