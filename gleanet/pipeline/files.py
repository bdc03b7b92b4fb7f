"""``export``, ``quantize`` and ``measure``: the stages that work on files."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gleanet.core.errors import BadInput, ModelError, SettingsError
from gleanet.core.files import is_onnx
from gleanet.core.lazy import Array
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Measurement, Preprocess, Row, Run
from gleanet.core.settings import QuantizeSettings, plain
from gleanet.data import Dataset, ImageSet, as_input, load, to_input
from gleanet.export import Batch, Exported, Input, Layout, Output, export_onnx, reform_file
from gleanet.measure import Candidate, compare, open_session, read_metadata
from gleanet.measure.accuracy import answers
from gleanet.measure.compare import side_by_side
from gleanet.measure.interface import read_interface
from gleanet.measure.runtimes import DEFAULT, select
from gleanet.nn import architecture_of, build
from gleanet.pipeline.answers import keep_answers
from gleanet.pipeline.recording import TRIALS, described, done_already, recorded, saved_settings
from gleanet.pipeline.subject import BATCH, judging, load_for, samples
from gleanet.quantize import quantize

RANDOM_IMAGES = 64
GUESSED = (
    "does not say how pixels become its input: of the usual normalisations the one with the best accuracy on training images is taken, "
    "which is a guess; gleanet export FILE --mean M --std S writes it into the file."
)
_FORMS = (
    Preprocess(),
    Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3),  # 0 to 1
    Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3),  # -1 to 1
    Preprocess(range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3),  # 0 to 255
)
_LOOK = 256  # labelled images on which they are compared


def export(
    source: str,
    out: Path,
    *,
    weights: str | None = None,
    input: Input | None = None,
    output: Output | None = None,
    batch: Batch | None = None,
    layout: Layout | None = None,
    preprocess: Preprocess | None = None,
    data: str | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """Export a checkpoint to ONNX, checked against torch; or bring an ONNX file into another form, checked against itself.

    Checked on real images where ``data`` is given, else on noise.

    Args:
        source: a ``.gleanet`` file, any MODEL together with ``weights``, or an ``.onnx`` file.
        out: the file to write.
        input, output, batch, layout, preprocess: see :func:`gleanet.export.reform`. None: as an ONNX file has it; for a checkpoint float,
            logits, dynamic and NCHW, and its own preprocessing.

    Raises:
        SettingsError: an ONNX file with ``weights``, or without any form to bring it into.
        ExportError: the file does not compute what its source computes; nothing is written then.
    """
    pixels = None if data is None else _load(source, weights, data, progress).test.images[:64]
    if is_onnx(source):
        if weights is not None:
            raise SettingsError(f"--weights belongs to a network: {source} has its own")
        if (input, output, batch, layout, preprocess) == (None,) * 5:
            raise SettingsError(f"nothing to do for {source}: give --input, --output, --batch, --layout, or --mean and --std")
        return reform_file(source, out, input=input, output=output, batch=batch, layout=layout, preprocess=preprocess, check=pixels)
    net = build(source, weights=weights).eval()
    record = architecture_of(net)
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (8, *record.input_shape), dtype=np.uint8)
    check = pixels if input == "uint8" else to_input(pixels, preprocess or record.preprocess)
    example = torch.zeros(1, *pixels.shape[1:])
    kind = input or "float"
    if (output, batch, layout) == (None, None, None):
        return export_onnx(net, example, out, input=kind, preprocess=preprocess, check=check)
    with tempfile.TemporaryDirectory(prefix="gleanet-") as folder:
        plain = export_onnx(net, example, Path(folder) / "plain.onnx", input=kind, preprocess=preprocess, check=check)
        formed = reform_file(plain.path, out, output=output, batch=batch, layout=layout, check=pixels)
    return replace(formed, max_abs_diff=max(plain.max_abs_diff, formed.max_abs_diff))


@dataclass(frozen=True)
class _Images:
    """What quantization looks at: calibration, selection and test images as the file takes them."""

    calibration: Iterable[NDArray[Any]]
    selection: Iterable[tuple[Array, NDArray[np.int64]]]
    test: tuple[Array, NDArray[np.int64]] | None
    data: Dataset | None


def quantize_file(
    settings: QuantizeSettings | None, *, out: Path | None = None, resume: str | None = None, progress: Progress = SILENT
) -> Run:
    """Try quantization methods on any ONNX classifier and keep the best one as ``model.int8.onnx``.

    Args:
        settings: what to do; None with ``resume``, which takes the settings of that run.
        out: the run's folder; None: ``runs/<date>-<model>-<short id>``.
        resume: folder or id of a run to go on with: methods that were tried already are not tried again, but all are timed anew.

    Returns:
        the record; status "below bar" where no method qualifies.
    """
    if (finished := done_already(resume, "quantize", progress, needs=())) is not None:
        return finished
    settings = settings or saved_settings(resume, "quantize", QuantizeSettings)
    source, runtimes = Path(settings.model), select(settings.runtime)
    with recorded("quantize", settings.model, plain(settings), out=out, resume=resume) as recorder:
        images = _random_images(source, settings) if settings.random_data else _real_images(source, settings, progress)
        target = recorder.folder.path("model.int8.onnx")
        choice = quantize(
            source,
            calibration=images.calibration,
            evaluate=images.selection,
            method=settings.quantizing.method,
            max_drop=100.0 if settings.random_data else settings.quantizing.max_drop,
            look=settings.quantizing.selection,
            out=target,
            threads=settings.threads,
            seed=settings.seed,
            runtimes=runtimes,
            repair=settings.repair,
            sensitivity=settings.sensitivity,
            keep=recorder.folder.path(TRIALS),
            progress=progress,
        )
        files = [Candidate(source)] if choice.path is None else [Candidate(source), Candidate(choice.path, choice.runtime)]
        inputs, labels = images.test or (None, None)
        found = side_by_side(files, inputs=inputs, labels=labels, baseline=files[0], threads=settings.threads, progress=progress)
        measured = found.measured
        if choice.path is not None and images.data is not None:
            keep_answers(recorder.folder.folder, (source.name, "model.int8.onnx"), found.answers, images.data.test)
        rows = [Row("as given", "given", replace(measured[0], file=os.path.relpath(source, recorder.folder.folder)))]
        if choice.path is not None:
            rows.append(Row(f"quantized ({choice.method})", "quantized", replace(measured[1], file="model.int8.onnx")))
        notes = [choice.reason, *measured[0].notes]
        if images.data is not None and not _knows_pixels(source):
            notes.append(f"{source.name} {GUESSED}")
        if settings.random_data:
            notes.append("Random images stood in for data: structure, bytes and times are real, accuracy says nothing.")
        return recorder.finish(
            status="done" if choice.path else "below bar",
            data=described(images.data) if images.data else {},
            rows=tuple(rows),
            trials=choice.trials,
            ranges=choice.ranges,
            sensitivity=choice.sensitivity,
            repair=choice.repair,
            interface=read_interface(choice.path or source),
            notes=tuple(notes),
            results={
                "quantization": {
                    "method": choice.method,
                    "reason": choice.reason,
                    "float_nodes": choice.float_nodes,
                    **choice.float_figures,
                }
            },
        )


def _real_images(source: Path, settings: QuantizeSettings, progress: Progress) -> _Images:
    assert settings.data is not None
    data = _load(str(source), None, settings.data, progress)
    drawn = samples(data, settings.quantizing.calibration, settings.quantizing.selection, settings.seed)
    form = _likely(source, data.train)
    calibration, test = (_as_input(source, part, form) for part in (drawn.calibration, data.test))
    parts, look = (drawn.selection, drawn.reserve), len(drawn.selection)
    return _Images(
        calibration=_split(calibration),
        selection=(
            batch for part in parts if part is not None for batch in judging(part, partial(_as_input, source, preprocess=form), look)
        ),
        test=(test, data.test.labels),
        data=data,
    )


def _load(model: str, weights: str | None, data: str, progress: Progress) -> Dataset:
    """A data set; class folders are cut to the size that an ONNX file fixes."""
    if not is_onnx(model) or not Path(model).is_file():
        return load_for(model, weights, data, progress=progress)
    return load(data, image_size=open_session(model).side, progress=progress)


def _random_images(source: Path, settings: QuantizeSettings) -> _Images:
    session = open_session(source)
    shape, kind = session.image_shape(), session.dtype
    rng = np.random.default_rng(settings.seed)
    size = (RANDOM_IMAGES, *shape)
    images: NDArray[Any] = rng.integers(0, 256, size, dtype=np.uint8) if kind == np.uint8 else rng.standard_normal(size, dtype=np.float32)
    labels = np.zeros(RANDOM_IMAGES, dtype=np.int64)
    return _Images(_split(images), list(zip(_split(images), _split(labels), strict=True)), None, None)


def _split(array: Array) -> Iterator[NDArray[Any]]:
    return (array[start : start + BATCH] for start in range(0, len(array), BATCH))


def _likely(file: Path, images: ImageSet) -> Preprocess:
    """How pixels become the input of a file: as its metadata says, else the usual form that names most of ``images`` right."""
    if _knows_pixels(file):
        return read_metadata(file).preprocess or Preprocess()
    seen = images.subset(np.random.default_rng(0).permutation(len(images))[:_LOOK])

    def right(form: Preprocess) -> int:
        return int((answers([Candidate(file)], as_input(seen, form))[Candidate(file)].classes == seen.labels).sum())

    return max(_FORMS, key=right)


def _as_input(file: Path, images: ImageSet, preprocess: Preprocess) -> Array:
    """Images as an ONNX file takes them: pixels for uint8, else normalised."""
    if open_session(file).dtype == np.uint8:
        return images.images
    return as_input(images, replace(preprocess, layout="NCHW"))  # whoever runs the file turns images where it takes NHWC


def measure(
    files: Sequence[str],
    data: str | None,
    *,
    random_data: bool = False,
    runtime: str = DEFAULT,
    threads: int = 1,
    batches: Sequence[int] = (1, 64),
    progress: Progress = SILENT,
) -> tuple[Measurement, ...]:
    """Measure checkpoints and ONNX files side by side; the first file in the first runtime is the baseline.

    Args:
        files: checkpoints are exported first, so that all files are measured by the same runtimes.
        runtime: a runtime, a comma list of several, or ``all`` that are installed.

    Returns:
        one record per file and runtime, the runtimes of a file one after the other.

    Raises:
        BadInput: neither data nor ``random_data``, or a file that is missing.
        SettingsError: an unknown runtime, or one that is not installed.
        DataError: a file does not take these images.
    """
    if (data is None) != random_data:
        raise BadInput("measure needs --data D for accuracy, or --random-data for structure and timing only; one of them")
    runtimes = select(runtime)
    with tempfile.TemporaryDirectory() as folder:
        onnx = [_as_onnx(name, Path(folder) / f"{index}.onnx") for index, name in enumerate(files)]
        loaded = None if data is None else _load(str(onnx[0]), None, data, progress)
        test = None if loaded is None else loaded.test
        inputs = None if test is None else test.images
        if loaded is not None and not all(_knows_pixels(file) for file in onnx):
            inputs = _as_input(onnx[0], loaded.test, _likely(onnx[0], loaded.train))
        candidates = [Candidate(path, name) for path in onnx for name in runtimes]
        measured = compare(
            candidates,
            inputs=inputs,
            labels=None if test is None else test.labels,
            baseline=candidates[0],
            batches=batches,
            threads=threads,
            progress=progress,
        )
        names = [name for name in files for _ in runtimes]
        guessed = () if test is None or _knows_pixels(onnx[0]) else (f"It {GUESSED}",)
        measured = (replace(measured[0], notes=(*guessed, *measured[0].notes)), *measured[1:])
        return tuple(
            replace(m, file=name, bytes=m.bytes if is_onnx(name) else Path(name).stat().st_size)
            for m, name in zip(measured, names, strict=True)
        )


def _knows_pixels(file: Path) -> bool:
    """Whether a file takes pixels, or says how to make its input from them."""
    return open_session(file).dtype == np.uint8 or read_metadata(file).preprocess is not None


def _as_onnx(name: str, temporary: Path) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ModelError(f"there is no file {name}: give .onnx files or .gleanet checkpoints")
    if is_onnx(path):
        return path
    return export(name, temporary).path
