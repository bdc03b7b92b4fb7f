"""Interpreters for environments: this one, those on PATH, in pyenv and in uv."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from shutil import which

from gleanet.core.errors import SettingsError

_PROBE = "import ensurepip, sys, venv; sys.stdout.write('%d.%d' % sys.version_info[:2])"
_SECONDS = 20


def find_interpreter(versions: Sequence[str]) -> Path | None:
    """An interpreter of the first of these versions (``3.8``) that is here and can make environments; None where there is none."""
    return next((path for version in versions for path in _candidates(version) if _version(path) == version), None)


def required_interpreter(name: str, versions: Sequence[str]) -> Path:
    """As :func:`find_interpreter`.

    Raises:
        SettingsError: none is here; the message says where one was looked for and how to get one.
    """
    found = find_interpreter(versions)
    if found is None:
        raise SettingsError(missing_interpreter(name, versions))
    return found


def missing_interpreter(name: str, versions: Sequence[str]) -> str:
    """The sentence about an interpreter that is not here."""
    wanted = " or ".join(versions)
    advice = f"install one, e.g. `pyenv install {versions[0]}`"
    return f"{name} needs Python {wanted} with venv, and there is none on PATH, in pyenv or in uv: {advice}"


def _candidates(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(getattr(sys, "_base_executable", sys.executable))
    on_path = which(f"python{version}")
    if on_path:
        yield Path(on_path)
    roots = dict.fromkeys(Path(root).expanduser() for root in (os.environ.get("PYENV_ROOT"), "~/.pyenv") if root)
    for root in roots:
        yield from sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True)
    found = _from_uv(version)
    if found:
        yield found


@cache
def _from_uv(version: str) -> Path | None:
    """What uv has installed already; it is not asked to download."""
    uv = which("uv")
    answer = _answer(uv, "python", "find", "--no-python-downloads", "--offline", version) if uv else ""
    return Path(answer) if answer else None


@cache
def _version(python: Path) -> str:
    """``3.8`` where this is a Python that can make environments; empty otherwise (a pyenv shim without its version, no ensurepip)."""
    return _answer(str(python), "-c", _PROBE) if python.is_file() else ""


def _answer(*command: str) -> str:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=variables)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
