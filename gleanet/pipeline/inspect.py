"""``inspect``: what a file is, and what quantization would do to it."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from gleanet.core.errors import ModelError
from gleanet.core.files import is_onnx
from gleanet.core.progress import SILENT, Progress
from gleanet.measure.inspect import Structure, structure_of
from gleanet.pipeline.files import export
from gleanet.quantize.outlook import Outlook, outlook


@dataclass(frozen=True)
class Inspection:
    """``quantization`` is None for a file that is quantized already."""

    structure: Structure
    quantization: Outlook | None


def inspect(name: str, *, progress: Progress = SILENT) -> Inspection:
    """Look at an ONNX file, or at a checkpoint by way of its export.

    Raises:
        ModelError: no such file, or one that cannot be read or run.
    """
    path = Path(name)
    if not path.is_file():
        raise ModelError(f"there is no file {name}: give an .onnx file or a .gleanet checkpoint")
    if is_onnx(path):
        return _inspect(path)
    with tempfile.TemporaryDirectory() as folder:
        found = _inspect(export(name, Path(folder) / "model.onnx", progress=progress).path)
    return replace(found, structure=replace(found.structure, file=name, bytes=path.stat().st_size))


def _inspect(path: Path) -> Inspection:
    structure = structure_of(path)
    return Inspection(structure, None if structure.quantized else outlook(path))
