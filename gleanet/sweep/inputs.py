"""The files that cells start from, copied into the sweep's folder: every cell sees the same bytes, wherever and whenever it runs."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gleanet.core.errors import BadInput, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.sweeps import SweepSettings, Value

INPUTS = "inputs"
_FILES = ("model", "weights", "plan")  # options that can name a file
_ENDINGS = (".gleanet", ".onnx", ".pt", ".pth", ".th", ".safetensors", ".json")
_BESIDE = (".data", "_data")  # where exporters put an ONNX file's external data


def settled(settings: SweepSettings) -> tuple[SweepSettings, dict[str, Path]]:
    """The settings with every file named as it will lie in the sweep's folder, and a data folder by its absolute path.

    Returns:
        the settings, and name in the sweep's folder -> the file here.

    Raises:
        BadInput: a file that is not there.
    """
    found: dict[str, Path] = {}
    options = _settled(settings.options, found)
    grid = {
        axis: tuple(replace(choice, options=_settled(choice.options, found)) for choice in choices)
        for axis, choices in settings.grid.items()
    }
    return replace(settings, options=options, grid=grid), found


def _settled(options: Mapping[str, Value], found: dict[str, Path]) -> dict[str, Value]:
    settled = dict(options)
    for name, value in options.items():
        if name == "data" and isinstance(value, str):
            settled[name] = _data(value)
        elif name in _FILES and isinstance(value, str) and _is_file(name, value):
            settled[name] = _add(Path(value).expanduser(), found)
    return settled


def _is_file(option: str, value: str) -> bool:
    """Whether the value means a file, which is then there; a model may also be built in, or a function."""
    if Path(value).expanduser().is_file():
        return True
    if option != "model" or value.endswith(_ENDINGS) or "/" in value or os.sep in value:
        raise BadInput(f"{option} is {value}: there is no such file")
    return False


def _data(value: str) -> str:
    """Names are looked up on the machine that runs a cell; a path is the same there only when it is absolute."""
    root, path = os.environ.get("GLEANET_DATA"), Path(value).expanduser()
    named = "/" not in value and os.sep not in value
    if not path.is_dir() or value == "digits" or (named and root and (Path(root).expanduser() / value).is_dir()):
        return value
    return str(path.resolve())


def _add(file: Path, found: dict[str, Path]) -> str:
    try:
        with open(file, "rb") as content:
            mark = hashlib.file_digest(content, "sha256").hexdigest()[:12]
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    name = f"{INPUTS}/{mark}/{file.name}"
    for path in (file, *_beside(file)):
        found[f"{INPUTS}/{mark}/{path.name}"] = path
    return name


def _beside(file: Path) -> Iterator[Path]:
    if file.suffix == ".onnx":
        yield from (path for ending in _BESIDE if (path := file.with_name(file.name + ending)).is_file())


def copy(found: Mapping[str, Path], folder: Path) -> None:
    """Copy what is not in the sweep's folder yet.

    Raises:
        StoreError: a file cannot be read any more, or written.
    """
    for name, file in found.items():
        target = folder / name
        if not target.is_file():
            try:
                data = file.read_bytes()
            except OSError as error:
                raise StoreError(f"cannot read {file}: {error.strerror}") from error
            write_bytes(target, data)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that :func:`copy` put there, by name."""
    files = sorted(path for path in (folder / INPUTS).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
