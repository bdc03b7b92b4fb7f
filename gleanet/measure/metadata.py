"""What an ONNX file says about itself: the keys ``gleanet.preprocess`` and ``gleanet.classes``."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx

from gleanet.core.errors import ModelError, StoreError
from gleanet.core.records import Preprocess, loads
from gleanet.measure.runtime import StrPath, read_model

PREPROCESS = "gleanet.preprocess"
CLASSES = "gleanet.classes"


@dataclass(frozen=True)
class Metadata:
    """``preprocess`` is None when the file does not say (or takes uint8 pixels); ``classes`` is empty when it does not say."""

    preprocess: Preprocess | None
    classes: tuple[str, ...]


def read_metadata(path: StrPath) -> Metadata:
    """Read the metadata of an ONNX file.

    Raises:
        ModelError: not an ONNX file, or a key that holds something else than it should.
    """
    return metadata_of(read_model(path, weights=False), Path(path))


def metadata_of(model: onnx.ModelProto, file: Path) -> Metadata:
    """The same for a model in memory; ``file`` only names it in errors."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    preprocess = None
    classes: tuple[str, ...] = ()
    try:
        if PREPROCESS in entries:
            preprocess = loads(entries[PREPROCESS].encode(), Preprocess, f"{PREPROCESS} in {file}")
        if CLASSES in entries:
            classes = msgspec.json.decode(entries[CLASSES], type=tuple[str, ...])
    except StoreError as error:
        raise ModelError(str(error)) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{CLASSES} in {file} is not a JSON list of names: {error}") from error
    return Metadata(preprocess=preprocess, classes=classes)


def write_metadata(model: onnx.ModelProto, preprocess: Preprocess | None, classes: tuple[str, ...]) -> None:
    """Set (or remove, when None or empty) both keys on ``model``, in place; other keys stay."""
    keep = [(entry.key, entry.value) for entry in model.metadata_props if entry.key not in (PREPROCESS, CLASSES)]
    if preprocess is not None:
        keep.append((PREPROCESS, msgspec.json.encode(preprocess).decode()))
    if classes:
        keep.append((CLASSES, msgspec.json.encode(list(classes)).decode()))
    del model.metadata_props[:]
    for key, value in sorted(keep):
        model.metadata_props.add(key=key, value=value)
