"""Finished trials in a folder, so that a choice that is cut short goes on where it stopped."""

import base64
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gleanet.core.errors import StoreError
from gleanet.core.files import write_bytes
from gleanet.core.lazy import Lazy
from gleanet.core.records import LayerSensitivity, RepairStep, Trial, dumps, loads
from gleanet.measure.runtime import serialize
from gleanet.quantize.methods import Method
from gleanet.quantize.trial import Source, Tried

MARK = "source"  # file that says what the trials are about


@dataclass(frozen=True)
class Kept:
    """A :class:`~gleanet.quantize.trial.Tried` as JSON: its bits are in base64, its file lies beside it. Times are not kept: candidates are
    timed in turns, all of them in one go. ``steps`` and ``sensitivity`` are those of a repaired one."""

    trial: Trial
    structure: str
    has_file: bool
    images: int
    hits: str
    meant: str
    blocks: int
    steps: tuple[RepairStep, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()


def opened(folder: Path, source: Source) -> None:
    """Make ``folder`` ready: empty unless what it keeps is about the same model, the same calibration and the same images.

    Raises:
        StoreError: the folder cannot be written.
    """
    first, mark = source.evaluation.first, folder / MARK
    digest = hashlib.sha256(serialize(source.model))
    for array in (source.samples, first.images, first.labels, first.logits):
        digest.update(array.digest() if isinstance(array, Lazy) else np.ascontiguousarray(array).tobytes())
    digest.update(dumps(source.statistics.records()))
    found = mark.read_bytes() if mark.is_file() else b""
    if found != digest.digest():
        shutil.rmtree(folder, ignore_errors=True)
        write_bytes(mark, digest.digest())


def keep(folder: Path, tried: Tried, steps: tuple[RepairStep, ...] = (), sensitivity: tuple[LayerSensitivity, ...] = ()) -> None:
    """Write ``tried``, whose file is in ``folder`` already, so that :func:`found` gives it back.

    Raises:
        StoreError: the folder cannot be written.
    """
    record = Kept(
        trial=tried.trial,
        structure=tried.structure,
        has_file=tried.file is not None,
        images=len(tried.hits),
        hits=_packed(tried.hits),
        meant=_packed(tried.meant),
        blocks=tried.blocks,
        steps=steps,
        sensitivity=sensitivity,
    )
    write_bytes(folder / f"{tried.method.name}.json", dumps(record))


def found(folder: Path, method: Method) -> tuple[Tried, Kept] | None:
    """What was kept of ``method``; None where there is nothing, or nothing that can be read."""
    record, file = folder / f"{method.name}.json", folder / f"{method.name}.onnx"
    if not record.is_file():
        return None
    try:
        kept = loads(record.read_bytes(), Kept, str(record))
        hits, meant = _unpacked(kept.hits, kept.images), _unpacked(kept.meant, kept.images)
    except (StoreError, ValueError):  # a record that was damaged is made again
        record.unlink(missing_ok=True)
        return None
    if kept.has_file and not file.is_file():
        return None
    return Tried(kept.trial, method, file if kept.has_file else None, kept.structure, hits, meant, kept.blocks), kept


def _packed(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(bits).tobytes()).decode("ascii")


def _unpacked(text: str, count: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes are not {count} bits")
    return np.unpackbits(packed, count=count).astype(bool)
