"""Isolated environments of the frameworks, under the user's cache: made, checked, measured, removed.

An environment is ready when its record ``ready.json`` is there and says what the catalogue says. The record is written last, so a set-up
that was cut short goes on with the next call: pip finds what is already installed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from gleanet.core.errors import FrameworkError, SettingsError, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import dumps, loads
from gleanet.core.turns import alone
from gleanet.data.cache import cache_dir
from gleanet.frameworks.catalogue import FRAMEWORKS, Framework, Need
from gleanet.frameworks.interpreters import find_interpreter, missing_interpreter, required_interpreter

READY = "ready.json"
LOG = "setup.log"
_SECONDS = 3600  # one pip command; the largest environment is 2 GB
_UNREACHABLE = ("failed to establish a new connection", "name resolution", "network is unreachable", "connection refused", "timed out")


@dataclass(frozen=True)
class Ready:
    """The record of an environment. ``install``: what the catalogue asked for; ``packages``: what it became; ``bytes``: on disk."""

    install: tuple[tuple[str, ...], ...]
    python: str
    packages: dict[str, str] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class State:
    """Whether a framework can run.

    Attributes:
        status: ready, here (in the interpreter that runs gleanet), absent, broken, or impossible (no interpreter, no system library).
        python: the interpreter that has it, None where none has.
        version: the framework's version, the pinned one where it is not installed.
        bytes: disk space of its environment, all packages included; None where it is not installed.
        reason: why not, and what to do.
    """

    status: str
    python: Path | None = None
    version: str = ""
    bytes: int | None = None
    reason: str = ""


def folder(framework: Framework) -> Path:
    """Where its environment is or would be."""
    return cache_dir() / "frameworks" / framework.environment


def state(framework: Framework) -> State:
    """Look whether the framework can run. Nothing is imported; the environment's interpreter is started once."""
    home = folder(framework)
    try:
        ready = loads((home / READY).read_bytes(), Ready, str(home / READY))
    except FileNotFoundError:
        ready = None
    except (OSError, StoreError) as error:
        return State("broken", reason=f"{error}: {_again(framework)}")
    if ready is None:
        return _elsewhere(framework)
    if ready.install != framework.install:
        return State("absent", reason=f"its pinned versions have changed: {_again(framework)}")
    python = python_of(home)
    if not _runs(python):
        return State("broken", reason=f"its interpreter {python} does not start: {_again(framework)}")
    return State("ready", python, ready.packages.get(_plain(framework.package), "unknown"), ready.bytes)


def setup(framework: Framework, *, progress: Progress = SILENT) -> State:
    """Make the framework's environment, or finish one that was cut short. Nothing happens where it is ready.

    Raises:
        SettingsError: no interpreter, or something of the operating system is missing; says which and how to get it.
        FrameworkError: the environment cannot be made, or pip failed; the first words of its error and the log's path.
    """
    found = state(framework)
    if found.status in ("ready", "here"):
        return found
    check_system(framework.needs, framework.title)
    base = required_interpreter(framework.title, framework.pythons)
    home = folder(framework)
    try:
        with alone(home, lambda: progress.say(f"waiting for another process that sets up {framework.environment}")):
            found = state(framework)
            if found.status == "broken":
                shutil.rmtree(home, ignore_errors=True)
            if found.status != "ready":
                home.mkdir(parents=True, exist_ok=True)
                _make(framework, base, home, progress)
    except OSError as error:
        where = error.filename or home
        raise StoreError(f"cannot make {where}: {error.strerror}; set GLEANET_CACHE to a folder that can be written") from error
    return state(framework)


def _make(framework: Framework, base: Path, home: Path, progress: Progress) -> None:
    """Make the environment in ``home`` with the interpreter ``base``, and write its record."""
    commands = [[str(python_of(home)), "-m", "pip", "install", "--no-input", "--retries", "1", *words] for words in framework.install]
    if not _runs(python_of(home)):
        commands.insert(0, [str(base), "-m", "venv", "--clear", str(home / "venv")])
    with progress.task(f"Set up {framework.name}", len(commands), "steps") as advance:
        for command in commands:
            _log(command, home / LOG, framework)
            advance(1)
    _link(framework, home)
    ready = Ready(framework.install, str(base), _packages(python_of(home)), _size(home))
    write_bytes(home / READY, dumps(ready))


def remove(framework: Framework) -> bool:
    """Delete its environment; whether there was one. Frameworks that share it lose it too."""
    home = folder(framework)
    if not home.exists():
        return False
    (home / READY).unlink(missing_ok=True)  # first, so that a half-deleted environment is not taken for a whole one
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise StoreError(f"cannot remove {home}: {error.strerror}") from error
    return True


def sharing(framework: Framework) -> tuple[str, ...]:
    """Names of all frameworks that live in this one's environment."""
    return tuple(row.name for row in FRAMEWORKS if row.environment == framework.environment)


def check_system(needs: tuple[Need, ...], title: str) -> None:
    """Raise SettingsError that names every program and library of ``needs`` that is not on this system."""
    missing = [need for need in needs if not _on_system(need.what)]
    if missing:
        names = ", ".join(need.what for need in missing)
        raise SettingsError(f"{title} needs {names}: install it (Debian: apt install {' '.join(need.package for need in missing)})")


def python_of(home: Path) -> Path:
    """The interpreter of the environment in ``home``."""
    return home / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def library(name: str) -> Path | None:
    """Path of a shared library of the system by its file name, e.g. ``libmpi.so.40``; None where the linker does not know it."""
    tool = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if tool is None:
        return None
    listed = subprocess.run([tool, "-p"], capture_output=True, text=True, check=False).stdout
    lines = (line.split() for line in listed.splitlines())
    return next((Path(words[-1]) for words in lines if words and words[0] == name), None)


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment variables for another interpreter: those that would lead it to our packages are left out."""
    ours = ("PYTHON", "VIRTUAL_ENV", "PYENV_VERSION", "GLEANET_")
    return {**{key: value for key, value in os.environ.items() if not key.startswith(ours)}, **extra}


def _elsewhere(framework: Framework) -> State:
    """The state of a framework without an environment of its own: in this interpreter, installable, or impossible."""
    if framework.here:
        try:
            version = metadata.version(framework.package)
        except metadata.PackageNotFoundError:
            version = ""
        if version:
            return State("here", Path(sys.executable), version, _size_here(framework.package))
    try:
        check_system(framework.needs, framework.title)
    except SettingsError as error:
        return State("impossible", reason=str(error))
    if find_interpreter(framework.pythons) is None:
        return State("impossible", reason=missing_interpreter(framework.title, framework.pythons))
    return State("absent", reason=f"not installed: {_again(framework)}")


def _again(framework: Framework) -> str:
    return f"gleanet frameworks setup {framework.name}"


def _on_system(what: str) -> bool:
    return library(what) is not None if ".so" in what else shutil.which(what) is not None


def _log(command: list[str], log: Path, framework: Framework) -> None:
    """Run one command of the set-up; its output goes to the log."""
    try:
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                check=False,
                env=clean_environment({}),
                stdin=subprocess.DEVNULL,
            )
    except subprocess.TimeoutExpired as error:
        raise FrameworkError(f"{framework.title}: set-up took more than {_SECONDS} s: call it again to go on; see {log}") from error
    except OSError as error:
        raise FrameworkError(f"{framework.title}: cannot start {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise FrameworkError(
            f"{framework.title}: {explain(log.read_text(encoding='utf-8', errors='replace'))}; the whole output is in {log}"
        )


def explain(output: str) -> str:
    """What failed pip says, in one line: no network where that is the cause, else its first error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(phrase in line.lower() for line in lines for phrase in _UNREACHABLE):
        return "the package index cannot be reached: check the network, then call setup again"
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines[-1:] or ["no output"])[0][:200]


def _link(framework: Framework, home: Path) -> None:
    """Put links to libraries of the system where the package looks for them under their old names."""
    for name, target in framework.links.items():
        found, packages = library(target), next(home.glob("venv/lib/python*/site-packages"), None)
        if found is None or packages is None:
            raise FrameworkError(f"{framework.title}: {target} is not on this system")
        link = packages / name
        link.unlink(missing_ok=True)
        link.symlink_to(found)


def _packages(python: Path) -> dict[str, str]:
    """Name to version of what is installed beside this interpreter."""
    done = subprocess.run(
        [str(python), "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=False, env=clean_environment({}), timeout=120
    )
    pairs = (line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return {_plain(name): version for name, version in pairs}


def _plain(package: str) -> str:
    return package.lower().replace("_", "-")


def _size(home: Path) -> int:
    """Bytes of all files below; links are not followed."""
    return sum(path.lstat().st_size for path in home.rglob("*") if path.is_symlink() or path.is_file())


def _size_here(package: str) -> int:
    """Bytes of a package in this interpreter and of all that it requires."""
    total, waiting, seen = 0, [package], set[str]()
    while waiting:
        name = waiting.pop()
        if _plain(name) in seen:
            continue
        seen.add(_plain(name))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a requirement for another platform, or of an extra
        total += sum(file.size or 0 for file in found.files or ())
        waiting += [requirement_name(text) for text in found.requires or () if "extra ==" not in text]
    return total


def requirement_name(text: str) -> str:
    """Name of the package in a requirement: ``numpy>=1.2; python_version < "3.9"`` -> ``numpy`` (PEP 508)."""
    name = text.split(";")[0].strip()
    for mark in "[(<>=!~ @":
        name = name.split(mark)[0]
    return name.strip()


def _runs(python: Path) -> bool:
    """Whether this interpreter starts."""
    if not python.exists():
        return False
    try:
        done = subprocess.run([str(python), "-c", "import sys"], capture_output=True, timeout=60, check=False, env=clean_environment({}))
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
