"""Everything that the page consists of: address -> content. The server answers these addresses and no others; the export writes them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files as files_of_package
from pathlib import Path
from typing import Any

from gleanet.core.errors import BadInput, DataError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Run
from gleanet.core.store import RunFolder, find
from gleanet.data import Dataset, load
from gleanet.measure import open_session
from gleanet.web.models import WebModel, web_model
from gleanet.web.ortweb import FILES, OrtWeb
from gleanet.web.samples import Sample, draw_samples

PAGE = ("index.html", "icon.svg", "page.css", "app.js", "view.js", "pixels.js", "worker.js")
RECORD = "site.json"
MADE_BY = "gleanet serve"
INT8 = "model.int8.onnx"
FLOATS = ("base.onnx", "model.onnx")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".onnx": "application/octet-stream",
}


@dataclass(frozen=True)
class Site:
    """``files``: address relative to the page -> bytes, or the file that holds them. ``notes``: what is worth saying to the user."""

    files: Mapping[str, bytes | Path]
    notes: tuple[str, ...]


def make_site(which: str | Path, ort: OrtWeb, *, float_file: Path | None = None, progress: Progress = SILENT) -> Site:
    """The page of a run.

    Args:
        which: the run's folder, its id, or a part of it, as :func:`gleanet.core.store.find` takes it.
        ort: the package onnxruntime-web.
        float_file: the float model; None: base.onnx of the run, else its model.onnx, else the file that was quantized.

    Raises:
        BadInput: no such run, one without an int8 file, a float file that is not there or has other classes, or a file that leaves
            its folder by a link.
        ModelError: a file that the page could not run; see :func:`gleanet.web.models.web_model`.
    """
    folder = find(which)
    run = folder.read()
    quantized = _artefact(folder, INT8)
    if quantized is None:
        raise BadInput(f"{folder.folder} has no {INT8} to compare: a run of `gleanet shrink` or `gleanet quantize` leaves one")
    plain = _float(folder, run, float_file)
    data, notes = _data(run, open_session(plain).side, progress)
    size = None if data is None else (data.test.images.shape[2], data.test.images.shape[3])
    models = [web_model(path, size) for path in (plain, quantized)]
    _check_pair(models)
    samples = () if data is None else draw_samples(data.test, _seed(run))
    here = files_of_package("gleanet.web") / "page"
    files: dict[str, bytes | Path] = {name: (here / name).read_bytes() for name in PAGE}
    files |= {name: ort.folder / source for name, source in FILES.items()}
    files |= {"models/float.onnx": plain, f"models/{INT8}": quantized}
    files |= {_png(index): sample.png for index, sample in enumerate(samples)}
    files[RECORD] = _record(run, data, models, samples, ort, sorted([*files, RECORD]))
    return Site(files, notes)


def _artefact(folder: RunFolder, name: str) -> Path | None:
    """A file of the run, None where there is none; a link out of the folder is refused, since what is served is open to others."""
    path = folder.path(name)
    if not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.folder.resolve()):
        raise BadInput(f"{path} is a link to {os.readlink(path) if path.is_symlink() else path.resolve()}, outside the run: copy it there")
    return path


def _float(folder: RunFolder, run: Run, given: Path | None) -> Path:
    if given is not None:
        if not given.is_file():
            raise BadInput(f"--float {given} is not a file: give an ONNX file")
        return given
    found = next((path for name in FLOATS if (path := _artefact(folder, name)) is not None), None)
    source = Path(run.model)
    if found is None and run.command == "quantize" and source.suffix == ".onnx" and source.is_file():
        return source
    if found is None:
        raise BadInput(f"{folder.folder} has neither {' nor '.join(FLOATS)}: give the float model with --float FILE")
    return found


def _data(run: Run, image_size: int | None, progress: Progress) -> tuple[Dataset | None, tuple[str, ...]]:
    """The run's data set, streamed images cut to ``image_size``; None, with the reason, where it has none or it is not here: the page then
    takes dropped images only."""
    name = run.settings.get("data")
    if not isinstance(name, str):
        return None, ("The run has no data set, so the page has no samples: drop images on it.",)
    try:
        return load(name, image_size=image_size, progress=progress), ()
    except DataError as error:
        return None, (f"The page has no samples, drop images on it: {error}",)


def _seed(run: Run) -> int:
    seed = run.settings.get("seed", 0)
    return seed if isinstance(seed, int) and seed >= 0 else 0


def _check_pair(models: list[WebModel]) -> None:
    first, second = models
    if first.classes and second.classes and first.classes != second.classes:
        counts = f"{len(first.classes)} classes ({', '.join(first.classes[:3])}, ...), {len(second.classes)}"
        raise BadInput(f"{first.path} and {second.path} do not have the same classes ({counts}): give the float model with --float FILE")


def _png(index: int) -> str:
    return f"samples/{index:02}.png"


def _record(run: Run, data: Dataset | None, models: list[WebModel], samples: tuple[Sample, ...], ort: OrtWeb, names: list[str]) -> bytes:
    """What the page reads first. ``files`` lets a later export know what is ours to replace."""
    classes = next((model.classes for model in models if model.classes), data.classes if data is not None else ())
    plain = {"base.onnx": "the network as given", "model.onnx": "the float model of the run"}.get(models[0].path.name, "the float file")
    small = "pruned and quantized" if run.command == "shrink" else "quantized"
    record: dict[str, Any] = {
        "made_by": MADE_BY,
        "version": version("gleanet"),
        "run": run.id,
        "model": Path(run.model).name,
        "data": data.title if data is not None else None,
        "runtime": f"onnxruntime-web {ort.version}",
        "classes": classes,
        "models": [models[0].record("models/float.onnx", "float", plain), models[1].record(f"models/{INT8}", "int8", small)],
        "samples": [{"href": _png(i), "index": sample.index, "label": sample.label} for i, sample in enumerate(samples)],
        "files": names,
    }
    return json.dumps(record, indent=1).encode() + b"\n"
