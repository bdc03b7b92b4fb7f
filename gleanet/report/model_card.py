"""The model card of a run: ``README.md`` beside the artefacts, as the Hugging Face hub reads it (YAML between dashes, then Markdown).

The form: huggingface.co/docs/hub/model-cards; what a card should tell: M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019,
section 4. It is made from the run's record alone, like the report. No licence is claimed: the network and the data are the user's.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from gleanet.core.files import write_bytes
from gleanet.core.records import Accuracy, Row, Run
from gleanet.core.store import ARTEFACTS, CARD, RECORD
from gleanet.report import units
from gleanet.report.frontier import frontier_table, verdict
from gleanet.report.tables import Table, baseline, final, table
from gleanet.report.view import answer

_TAGS = {"shrink": ("pruning", "quantization"), "quantize": ("quantization",), "prune": ("pruning",)}
_HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}  # data sets of ours that the hub has, complete and original
_WHAT = {
    "model.int8.onnx": "the small network, quantized, for ONNX Runtime",
    "model.onnx": "the pruned network in float, for ONNX Runtime",
    "base.onnx": "the network as it was given, in float",
    "model.gleanet": "a checkpoint for PyTorch, without pickle: `{load}`",
    "plan.json": "which channels stay",
    "report.html": "what each step cost, with charts",
    "run.json": "every number, setting and version",
}
_SHOWN_CLASSES = 100
_SETS = {"train": "train and calibrate on", "test": "test on"}
_CODE = """import json

import numpy as np
import onnxruntime as ort
from PIL import Image

session = ort.InferenceSession("{file}", providers=["CPUExecutionProvider"])
entry, told = session.get_inputs()[0], session.get_modelmeta().custom_metadata_map
height, width = {size}
pixels = np.asarray(Image.open("picture.png").convert("RGB").resize((width, height)))
{image}
scores = session.run(None, {{entry.name: image[np.newaxis]}})[0][0]
print(json.loads(told["gleanet.classes"])[int(scores.argmax())])"""
_FLOAT = """preprocess = json.loads(told["gleanet.preprocess"])
mean, std = (np.array(preprocess[key], dtype=np.float32) for key in ("mean", "std"))
image = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)"""


def write_card(run: Run, folder: Path) -> Path:
    """Write ``README.md`` into the run's folder and return its path; it lists the artefacts that are there.

    Raises:
        StoreError: the folder cannot be written.
    """
    there = [name for name in (*ARTEFACTS, "plan.json", RECORD) if (folder / name).is_file() or name == RECORD]
    target = folder / CARD
    write_bytes(target, model_card(run, there).encode())
    return target


def model_card(run: Run, files: Sequence[str] = ()) -> str:
    """The card as text. ``files``: the artefacts beside it."""
    parts = [
        _front(run),
        f"# {_name(run)}",
        *_said(run),
        *_files(run, files),
        *_results(run),
        *_use(run, files),
        *_limits(run),
        *_made(run),
    ]
    return "\n\n".join(parts) + "\n"


def _front(run: Run) -> str:
    library = "onnx" if {"shrink", "quantize"} & set(run.command.split()) else "pytorch"
    lines = ["---", f"library_name: {library}", "pipeline_tag: image-classification", "tags:"]
    lines += [f"- {tag}" for tag in ("image-classification", library, *_tags(run), "gleanet")]
    if hub := _HUB.get(str(run.data.get("name"))):
        lines += ["datasets:", f"- {hub}"]
    found = _accuracy(run)
    if found is not None and run.data:
        lines += ["metrics:", "- accuracy", "model-index:", f"- name: {_yaml(_name(run))}", "  results:"]
        lines += ["  - task:", "      type: image-classification", "    dataset:", f"      name: {_yaml(_data(run))}"]
        lines += [f"      type: {_yaml(run.data.get('name') or _data(run))}", "      split: test", "    metrics:", "    - type: accuracy"]
        lines += [f"      value: {found.correct / found.n:.4f}", "      name: Accuracy"]
    return "\n".join([*lines, "---"])


def _tags(run: Run) -> tuple[str, ...]:
    return next((_TAGS[word] for word in run.command.split() if word in _TAGS), ())


def _said(run: Run) -> Iterator[str]:
    """The answer, and how sure it is."""
    yield _text(answer(run)) if run.rows else _alone(run)
    base, last = baseline(run.rows), final(run.rows)
    if base is not None and last is not None and last is not base and last.measured.change is not None:
        yield (
            f"Compared with \N{LEFT DOUBLE QUOTATION MARK}{_text(base.label)}\N{RIGHT DOUBLE QUOTATION MARK} on the same "
            f"{last.measured.change.n:,} test images of {_data(run)}; intervals are 95 %."
        )


def _alone(run: Run) -> str:
    found = _accuracy(run)
    return f"{_name(run)}: {units.accuracy(found)} accurate on {found.n:,} test images of {_data(run)}." if found else f"{_name(run)}."


def _files(run: Run, names: Sequence[str]) -> Iterator[str]:
    rows = [(f"`{name}`", _WHAT[name].format(load=_load(run))) for name in _WHAT if name in names]
    if rows:
        yield _markdown(Table(("File", ""), tuple(rows)))


def _results(run: Run) -> Iterator[str]:
    if run.frontier is not None:
        points = frontier_table(run.frontier)
        yield f"## Frontier\n\n{_text(verdict(run.frontier))}\n\n{_markdown(points)}\n\n{_text(points.caption)}."
    if run.rows:
        whole = table(run.rows, baseline(run.rows))
        yield f"## Results\n\n{_markdown(whole)}\n\n{whole.caption}. {_machine(run)}"


def _use(run: Run, files: Sequence[str]) -> Iterator[str]:
    file = next((name for name in ("model.int8.onnx", "model.onnx") if name in files), None)
    if file is None:
        if "model.gleanet" in files:
            yield f"## Use it\n\n```python\nimport gleanet\n\nnet = {_load(run)}  # an nn.Module in evaluation mode\n```"
        return
    pixels = run.settings.get("input") == "uint8"
    image = "image = pixels.transpose(2, 0, 1)" if pixels else _FLOAT
    fixed = "(size if isinstance(size, int) else 32 for size in entry.shape[2:])  # that of the training images"
    yield f"## Use it\n\n```python\n{_CODE.format(file=file, image=image, size=_size(run) or fixed)}\n```"


def _size(run: Run) -> tuple[int, ...] | None:
    """Height and width of the images, where the record says them."""
    size = run.data.get("image_size")
    known = isinstance(size, list | tuple) and len(size) == 2 and all(type(pixels) is int for pixels in size)
    return tuple(size or ()) if known else None


def _limits(run: Run) -> Iterator[str]:
    """What it is for, and what the figures do not say."""
    if not run.data:
        yield "## Limits\n\nNo data was at hand: structure, bytes and times are real, accuracy was not measured."
        return
    named = run.data.get("classes")
    classes = [_text(str(name)) for name in named] if isinstance(named, list | tuple) else []
    if classes:
        more = f", and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
        said = (
            f"It tells {len(classes)} classes apart, and gives one of them whatever it sees: {', '.join(classes[:_SHOWN_CLASSES])}{more}."
        )
        yield f"## Classes\n\n{said}"
    part = "" if run.data.get("complete", True) else " This is only a part of that set."
    counts = [f"{run.data[key]:,} images to {what}" for key, what in _SETS.items() if isinstance(run.data.get(key), int)]
    yield (
        f"## Data and limits\n\nData: {', '.join([_data(run), *counts])}; figures are of the images to test on.{part} Accuracy is over all "
        f"classes together: compression can cost some classes more than others, so look at those that matter to you. Times hold for the "
        f"machine named here."
    )


def _made(run: Run) -> Iterator[str]:
    notes = "\n\n" + "\n".join(f"- {_text(note)}" for note in run.notes) if run.notes else ""
    versions = _text(", ".join(f"{name} {version}" for name, version in run.versions.items()))
    seed = run.settings.get("seed")
    yield (
        f"## How it was made\n\nBy `gleanet {_text(run.command)}` from `{_name(run)}`{_weights(run)} on {_text(run.started[:10])}"
        f"{'' if seed is None else f', seed {_text(str(seed))}'}; settings in `run.json`.{notes}\n\nVersions: {versions}."
    )


def _weights(run: Run) -> str:
    """The checkpoint's name; its folder is nobody else's business."""
    weights = run.settings.get("weights")
    return f" with the weights `{_text(PurePath(str(weights)).name)}`" if weights else ""


def _load(run: Run) -> str:
    """The call that reads the checkpoint; code of the user's own must be named."""
    own = "" if ":" not in run.model else f", factory={json.dumps(' '.join(run.model.split()))}"
    return f'gleanet.load("model.gleanet"{own})'


def _accuracy(run: Run) -> Accuracy | None:
    """Of the network that the run is about."""
    last: Row | None = final(run.rows) or (run.rows[-1] if run.rows else None)
    if last is not None:
        return last.measured.accuracy
    found = run.results.get("accuracy")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), int | float) for key in ("value", "low", "high", "n")):
        return None
    return Accuracy(round(found["value"] * found["n"]), int(found["n"]), float(found["low"]), float(found["high"]))


def _machine(run: Run) -> str:
    cpu = run.machine.get("cpu")
    return f"Timed on {_text(str(cpu))}." if cpu else ""


def _data(run: Run) -> str:
    return _text(str(run.data.get("title") or run.data.get("name") or "unnamed data"))


def _name(run: Run) -> str:
    """``resnet20``, or the file's or the function's name."""
    return _text(PurePath(run.model.rpartition(":")[2]).name) or "model"


def _text(words: str) -> str:
    """One line that Markdown takes for plain words."""
    return " ".join(words.split()).replace("|", r"\|").replace("<", "&lt;")


def _yaml(value: object) -> str:
    """A quoted YAML scalar: a JSON string is one."""
    return json.dumps(str(value), ensure_ascii=False)


def _markdown(given: Table) -> str:
    lines = [given.header, tuple("---" for _ in given.header), *(tuple(map(_text, row)) for row in given.cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
