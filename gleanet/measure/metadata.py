"""What an ONNX file says about itself: the keys ``gleanet.preprocess`` and ``gleanet.classes``."""

import json
from dataclasses import dataclass
from pathlib import Path

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
            names = json.loads(entries[CLASSES])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ModelError(f"{CLASSES} in {file} is not a JSON list of names")
            classes = tuple(names)
    except StoreError as error:
        raise ModelError(str(error)) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{CLASSES} in {file} is not JSON: {error}") from error
    return Metadata(preprocess=preprocess, classes=classes)
