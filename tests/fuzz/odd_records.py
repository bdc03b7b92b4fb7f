"""Records and settings that say more, or something else, than they should."""

import json
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch

from tests.fuzz import specimens
from tests.fuzz.graphs import onnx_metadata, onnx_with
from tests.fuzz.making import Make, renamed, write

MARKUP = "</td><script>alert(1)</script><img src=x onerror=alert(1)>"


def not_finite() -> Iterator[tuple[str, str, Make]]:
    """NaN and infinity where numbers should be."""
    for word, value in (("NaN", float("nan")), ("inf", float("inf")), ("-inf", float("-inf"))):
        for kind in ("zip", "safetensors"):
            yield f"{word} in weights, {kind}", "weights", write("w.pt", partial(_weights_with, value, kind))
        yield f"{word} in a checkpoint", "checkpoint", write("m.gleanet", partial(_checkpoint_with, value))
        for reader in ("onnx_file", "onnx_graph"):
            yield f"{word} in an ONNX file, {reader}", reader, partial(onnx_with, value)
    for text in ("nan", "inf", "-inf", "1e308", "-1", "0", "true", '"<b>"', "[]", "{}", '"\\u001b[31m"', "1979-05-27"):
        for key in (
            "epochs",
            "lr",
            "batch-size",
            "weight-decay",
            "label-smoothing",
            "seed",
            "threads",
            "device",
            "activation",
            "data",
            "json",
        ):
            yield (
                f"{key} = {text} in a settings file",
                "config",
                write("c.toml", f'data = "nowhere"\n{key} = {text}\n'.replace('data = "nowhere"\ndata', "data").encode()),
            )


def _weights_with(value: float, kind: str) -> bytes:
    state = {name: tensor.clone() for name, tensor in specimens.network().state_dict().items()}
    next(tensor for tensor in state.values() if tensor.is_floating_point()).view(-1)[0] = value
    if kind == "safetensors":
        return safetensors.torch.save(state)
    return specimens.torch_file(state, kind)


def _checkpoint_with(value: float) -> bytes:
    return specimens.checkpoint()[:-4] + struct.pack("<f", value)


def odd_records() -> Iterator[tuple[str, str, Make]]:
    """Records and names that say more than they should."""
    for path in (
        ("data", "classes"),
        ("model",),
        ("notes",),
        ("rows", 0, "label"),
        ("trials", 0, "reason"),
        ("curves", 0, "name"),
        ("widths", 0, "layer"),
        ("data", "title"),
        ("id",),
        ("command",),
        ("trials", 0, "method"),
        ("machine", "cpu"),
    ):
        for reader in ("report", "run_folder"):
            yield f"markup in {path} of a run, {reader}", reader, write("run/run.json", partial(_run_with, path, MARKUP))
        yield (
            f"control codes in {path} of a run",
            "run_folder",
            write("run/run.json", partial(_run_with, path, "\x1b]0;evil\x07\x1b[2J\r\n")),
        )
    for field, odd in (
        ("n", 10**30), ("n", 0), ("n", -8), ("right_after", "AAAA"), ("right_before", 7), ("classes", []), ("classes", [MARKUP] * 10),
        ("per_class", []), ("changed", [{"index": 0, "label": -5, "before": 10**12, "after": 3, "png": "AAAA"}]), ("format_version", 99),
        ("mistakes", [{"label": 10**9, "answer": -1, "before": -3, "after": 10**20}]), ("before", MARKUP),
    ):  # fmt: skip
        yield f"answers whose {field} is {odd!r:.60}", "answers", write("run/answers.json", partial(_answers_with, field, odd))
    for name, value in (
        ("status", "nonsense"),
        ("started", "never"),
        ("started", "0001-01-01T00:00:00+23:59"),
        ("started", ""),
        ("started", "9999-12-31T23:59:59-23:59"),
        ("seconds", 1e308),
        ("seconds", -1.0),
        ("format_version", -1),
        ("format_version", 10**30),
        ("format_version", "2"),
        ("format_version", 1.5),
        ("results", {"plan": "\x1b[2J"}),
        ("results", {"accuracy": {}}),
        ("results", {"accuracy": {"value": "x"}}),
        ("settings", {"model": 1}),
        ("results", {"folder": ["a"]}),
        ("data", {"title": 5}),
        ("rows", []),
        ("curves", []),
        ("command", "shrink"),
    ):
        yield f"a run whose {name} is {value!r}", "run_folder", write("run/run.json", partial(_run_with, (name,), value))
    for kwargs in (
        {"num_classes": 10**9},
        {"num_classes": 0},
        {"num_classes": -1},
        {"num_classes": "ten"},
        {"num_classes": 1e300},
        {"nope": 1},
        {"activation": "<script>"},
        {"activation": None},
        {"activation": ["relu"]},
        {"num_classes": None},
        {"widths": {"conv1": 1}},
    ):
        yield f"a checkpoint with arguments {kwargs}", "checkpoint", write("m.gleanet", partial(renamed, {"kwargs": kwargs}))
    for shape in ([3, 100_000, 100_000], [3, 0, 0], [0, 8, 8], [3, -8, 8], [3, 1, 1], [1 << 40, 1, 1], [3, 20_000, 20_000]):
        yield f"a checkpoint for images {shape}", "checkpoint", write("m.gleanet", partial(renamed, {"input_shape": shape}))
    activations: tuple[dict[str, Any], ...] = (
        {"name": "nope"},
        {},
        {"name": "beamish", "alpha": -1},
        {"name": "beamish", "alpha": "x"},
        {"name": "relu", "evil": 1},
        {"name": 3},
    )
    for made in activations:
        yield f"a checkpoint with activation {made}", "checkpoint", write("m.gleanet", partial(renamed, {"activations": {"act1": made}}))
        yield (
            f"a checkpoint with activation {made} instead of a layer",
            "checkpoint",
            write("m.gleanet", partial(renamed, {"activations": {"conv1": made}})),
        )
    for widths in ({"conv1": 10**12}, {"conv1": -1}, {"nowhere": 3}, {"": 3}, {"layer1.0.conv1": 0}):
        yield f"a checkpoint with widths {widths}", "checkpoint", write("m.gleanet", partial(renamed, {"widths": widths}))
    yield "a checkpoint of the future", "checkpoint", write("m.gleanet", partial(renamed, {}, {"format_version": 99}))
    yield "class names with markup in an ONNX file", "onnx_file", partial(onnx_metadata, {"gleanet.classes": json.dumps([MARKUP])})
    for text in ("", "[", "{}", "[1]", "null", '"x"', "[" * 5000):
        for key in ("gleanet.classes", "gleanet.preprocess"):
            yield f"{key} = {text[:5]!r} ({len(text)})", "onnx_file", partial(onnx_metadata, {key: text})
    for std in ("[0, 0, 0]", "[1e-300, 1, 1]", "[]", "[1]", '["a"]', "[-1, 1, 1]"):
        yield f"preprocess with std {std}", "onnx_file", partial(onnx_metadata, {"gleanet.preprocess": f'{{"std": {std}}}'})
    for name in (MARKUP, "\x1b[2J", "a\nb", " ", "é" * 40):
        yield f"a class folder {name[:12]!r}", "data_folder", partial(_named_folder, name)
    yield "a run.json that is a folder", "run_folder", lambda folder: (folder / "run" / "run.json").mkdir(parents=True)
    yield "a run.json that is a link to itself", "run_folder", _self_link


def _run_with(path: tuple[str | int, ...], value: object) -> bytes:
    record = json.loads(specimens.run_record())
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    last: Any = path[-1]
    old = inner[last] if isinstance(last, int) or last in inner else None
    inner[last] = [value] * len(old) if isinstance(old, list) and isinstance(value, str) else value
    return json.dumps(record).encode()


def run_with_raw(key: str, raw: bytes) -> bytes:
    record = json.loads(specimens.run_record())
    record[key] = "@@"
    return json.dumps(record).encode().replace(b'"@@"', raw)


def _named_folder(name: str, folder: Path) -> None:
    for one in (name.replace("/", "-"), "other"):
        for n in range(2):
            write(f"data/{one}/{n}.png", specimens.image("PNG"))(folder)
    (folder / "data" / name.replace("/", "-") / "broken.png").write_bytes(b"x")


def _self_link(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").symlink_to("run.json")


def _answers_with(name: str, value: object) -> bytes:
    record = json.loads(specimens.answers_file())
    record[name] = value
    return json.dumps(record).encode()
