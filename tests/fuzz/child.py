"""A process that reads hostile files: ``python -m tests.fuzz.child ROOT FIRST STEP`` reads cases FIRST, FIRST + STEP, ... under limits.

One line of JSON a case on standard output. A case that works for more than 10 s ends the process by a signal, stuck in whatever; memory
beyond 2 GB more than this process has when it begins is refused by the operating system. After every case: nothing outside of its folder
was opened for writing (Python's audit hook), changed or made (a look at the folder around it), nothing was started, no connection opened.
"""

import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path

from gleanet.cli.terminal import print_error
from gleanet.core import host
from gleanet.core.errors import GleanetError
from gleanet.report.html import document
from tests.fuzz.corpus import Case, cases
from tests.fuzz.readers import readers
from tests.report.example import example_run

SECONDS = 10.0  # of work
WAITING = 60.0  # of anything: on a machine with other work, ten seconds of work take longer
MEMORY = 2 << 30
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "socket.connect", "pty.spawn",
    "ctypes.dlopen", "os.startfile",
)  # fmt: skip


class Watch:
    """Notes what Python code does that no reader has any business to do."""

    def __init__(self, root: Path) -> None:
        self.root, self.allowed, self.seen = root, "", list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.allowed:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if writes and not path.startswith((self.allowed, str(self.root / "tmp"), str(self.root / "cache"), os.devnull)):
                self.seen.append(f"opened {path} for writing")


def main(root: Path, first: int, step: int) -> None:
    for name in ("tmp", "cache", "outside", "sandbox"):
        (root / name).mkdir()
    (root / "outside" / "canary").write_bytes(b"alive")
    os.environ.update(GLEANET_CACHE=str(root / "cache"), GLEANET_NATIVE="0", TMPDIR=str(root / "tmp"), HOME=str(root))
    os.environ.pop("GLEANET_DATA", None)
    tempfile.tempdir = None
    host.machine()  # asks the processor once, in a process of its own
    document(example_run())  # the chart library reserves address space when it starts
    chosen, watch = cases()[first::step], Watch(root)
    _limit_memory()
    for case in chosen:
        folder = root / "sandbox" / "case"
        folder.mkdir()
        case.make(folder)
        before = _around(root)
        _say(case=case.name)
        os.chdir(folder)
        watch.seen.clear()
        watch.allowed = str(folder)
        _limit_time(SECONDS, WAITING)
        outcome = _read(case, folder)
        _limit_time(0, 0)
        watch.allowed = ""
        os.chdir(root)
        changed = sorted(set(before.items()) ^ set(_around(root).items()))
        _say(**outcome, did=[*watch.seen, *(f"changed {path}" for path, _ in changed)])
        shutil.rmtree(folder)
    _say(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _read(case: Case, folder: Path) -> dict[str, str]:
    """What came of it: "accepted", "refused" with the words, or "wrong" with what was raised instead."""
    reader = readers()[case.reader]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader(folder)
    except GleanetError as error:
        line = io.StringIO()
        with redirect_stderr(line):
            print_error(str(error))
        said = line.getvalue()
        fine = (
            said.startswith("gleanet: ") and len(said) < 2000 and said.endswith("\n") and said[:-1].isprintable() and said != "gleanet: \n"
        )
        return {"outcome": "refused" if fine else "wrong", "says": str(error)}
    except BaseException as error:
        trace, place = error.__traceback__, ""
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            place = f"{name}:{trace.tb_lineno}" if "/gleanet/" in name else place
            trace = trace.tb_next
        return {"outcome": "wrong", "says": f"{type(error).__name__}: {error!s:.300} at {place}"}
    return {"outcome": "accepted", "says": ""}


def _around(root: Path) -> dict[str, tuple[int, int]]:
    """Everything under ``root`` but the case's own folder, what is cached and what is temporary."""
    found = {}
    for top in (root, root / "sandbox", root / "outside"):
        for path in os.scandir(top):
            if path.name not in ("case", "tmp", "cache", "sandbox", "outside"):
                status = path.stat(follow_symlinks=False)
                found[path.path] = (status.st_size, status.st_mtime_ns)
    return found


def _limit_time(work: float, waiting: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, work)
    signal.setitimer(signal.ITIMER_REAL, waiting)


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))


def _say(**fields: object) -> None:
    sys.__stdout__.write(json.dumps(fields) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
