"""The runtimes that can execute an ONNX file. One more is one more file like ``openvino_runtime.py``, and its name in ``RUNTIMES``."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from gleanet.core import host
from gleanet.core.errors import SettingsError
from gleanet.measure.runtime import read_model
from gleanet.measure.session import Session, StrPath, one_line

DEFAULT = "onnxruntime"
# Name, which is also that of the package and of our extra -> the file that knows it; imported when first asked for.
RUNTIMES: Mapping[str, str] = {DEFAULT: "gleanet.measure.runtime", "openvino": "gleanet.measure.openvino_runtime"}


class Runtime(Protocol):
    """What the file of a runtime holds."""

    def runtime_name(self) -> str:
        """The runtime and its version, as it stands in records."""

    def open_checked(self, file: Path, *, threads: int) -> Session:
        """Open a file that ``read_model`` has checked, with ``threads`` threads per call; ModelError where the runtime refuses it."""

    def node_counts(self, path: StrPath) -> dict[str, int]:
        """Kind of node -> how many, in the graph that the runtime executes; ModelError likewise."""


@dataclass(frozen=True)
class Candidate:
    """A file, and the runtime that executes it."""

    path: Path
    runtime: str = DEFAULT


def candidate(given: StrPath | Candidate, runtime: str = DEFAULT) -> Candidate:
    """``given`` itself where it says its runtime, else the file in ``runtime``."""
    return given if isinstance(given, Candidate) else Candidate(Path(given), runtime)


def load(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        SettingsError: no such name, or not installed.
    """
    if name not in RUNTIMES:
        raise SettingsError(f"unknown runtime {name!r}: choose {', '.join(RUNTIMES)}")
    try:
        return cast(Runtime, import_module(RUNTIMES[name]))
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise SettingsError(f"{name} is not installed: pip install 'gleanet[{name}]'") from error
        raise SettingsError(f"{name} is installed but cannot be loaded: {one_line(error)}") from error


def select(names: str) -> tuple[str, ...]:
    """Runtimes from a comma list, in its order; ``all`` means every one that is installed.

    Raises:
        SettingsError: an unknown name, or one that is not installed.
    """
    if names.strip() == "all":
        installed = host.runtimes()
        return tuple(name for name in RUNTIMES if name in installed)
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        load(name)
    return chosen


def open_session(path: StrPath | Candidate, *, threads: int = 1, runtime: str = DEFAULT) -> Session:
    """Open a file on the CPU; ``threads`` threads work on one call, and one call runs at a time.

    Raises:
        SettingsError: an unknown runtime, or one that is not installed.
        ModelError: unreadable, not ONNX, refused by the runtime, more than one input, or an input type that is not float or uint8.
    """
    one = candidate(path, runtime)
    chosen = load(one.runtime)
    read_model(one.path, weights=False)  # our own checks first: a runtime follows external data anywhere it can
    return chosen.open_checked(one.path, threads=threads)
