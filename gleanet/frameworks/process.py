"""One adapter in one process: its own interpreter, its own cores, a time limit, one JSON answer. A crash is an answer too."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleanet.core.errors import FrameworkError
from gleanet.frameworks.catalogue import Framework
from gleanet.frameworks.environments import State, clean_environment, library

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS")
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}


class AdapterError(FrameworkError):
    """The adapter gave no answer; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What a process gets: ``threads`` (and as many cores), ``seconds`` before it is killed."""

    threads: int = 1
    seconds: float = 600.0


def run_adapter(framework: Framework, state: State, job: Mapping[str, Any], limits: Limits, work: Path) -> dict[str, Any]:
    """Run the framework's adapter on a job and return its answer.

    Args:
        job: what ``adapters/harness.py`` reads; the paths, the cores and the threads are added here.
        work: folder for the job, the log and compiled code; a cache folder inside it is the framework's own.

    Raises:
        AdapterError: the process crashed, was killed at the limit, or answered nothing.
    """
    if state.python is None:
        raise AdapterError(state.reason)
    work.mkdir(parents=True, exist_ok=True)
    question, answer, log = work / "job.json", work / "answer.json", work / "log.txt"
    answer.unlink(missing_ok=True)
    whole = {**job, "answer": str(answer), "threads": limits.threads, "cores": _cores(limits.threads)}
    question.write_text(json.dumps(whole), encoding="utf-8")
    command = [str(state.python), str(framework.script), str(question)]
    with log.open("wb") as output:
        code = _wait(command, output.fileno(), _variables(framework, str(job["dtype"]), limits.threads, work), limits.seconds)
    if code != 0 or not answer.is_file():
        raise AdapterError(_reason(code, log, limits.seconds))
    found = json.loads(answer.read_text(encoding="utf-8"))
    return dict(found)


def _wait(command: list[str], output: int, variables: dict[str, str], seconds: float) -> int | None:
    """Exit code of the command; None when it was killed at the limit. Whatever it started ends with it, and all of them with us.

    We hold the other end of its standard input and write nothing: where we are killed it closes, which ends them (``harness.py``).
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=variables, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with all that it started (compilers, workers)."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # all of them have ended by themselves
            process.poll()
    else:
        process.kill()
    process.communicate()


def _variables(framework: Framework, dtype: str, threads: int, work: Path) -> dict[str, str]:
    """Environment variables of the process: nothing of ours, threads, quiet, and the framework's own."""
    cache = work / "cache"
    cache.mkdir(exist_ok=True)
    blas = "-lopenblas" if library("libopenblas.so") else ""
    own = {key: value.format(cache=cache, blas=blas, dtype=dtype) for key, value in framework.variables.items()}
    shared = {"XDG_CACHE_HOME": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    return clean_environment({**dict.fromkeys(_THREAD_VARIABLES, str(threads)), **_QUIET, **shared, **own})


def _cores(threads: int) -> list[int]:
    """The last ``threads`` cores that this process may use: the first ones have more to do with the rest of the system."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return usable[-threads:]


def _reason(code: int | None, log: Path, seconds: float) -> str:
    """Why there is no answer, in one line."""
    if code is None:
        return f"killed at the limit of {seconds:.0f} s; see {log}"
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
        return f"its process was ended by {name}; see {log}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{(lines or ['no output'])[-1][:160]}; see {log}" if code else f"it ended without an answer; see {log}"
