"""The cases, in a fixed order: a name, how gleanet reads it, and how to make its files. The same name gives the same files, always."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests.fuzz import hostile, specimens
from tests.fuzz.mutate import Random, damage, damage_text

SEED = 20261125


@dataclass(frozen=True)
class Case:
    """``reader``: a name of ``readers.readers()``; ``make`` puts the files into the empty folder that it is given."""

    name: str
    reader: str
    make: Callable[[Path], None]


def cases() -> list[Case]:
    """Damaged ones of every kind, then those made by hand."""
    return [*_damaged(), *(Case(name, reader, make) for name, reader, make in hostile.cases())]


def _damaged() -> Iterator[Case]:
    for n in range(240):
        yield _case(f"parquet {n}", "data_folder", partial(_parquet, "test.parquet" if n % 3 == 0 else "train.parquet"))
    for n in range(300):
        yield _case(f"cifar pickle {n}", "data_folder", partial(_pickle, n % 6))
    for n in range(40):
        yield _case(f"cifar meta {n}", "data_folder", _meta)
    for n in range(80):
        yield _case(f"cifar binary {n}", "data_folder", _binary)
    for n in range(180):
        yield _case(f"tar {n}", "archive", partial(_tar, outside=n % 3 == 0))
    for n in range(420):
        yield _case(f"image {n}", "image", partial(_image, specimens.IMAGES[n % 12] if n % 12 < 7 else "JPEG"))
    for n in range(240):
        yield _case(f"streamed image {n}", "streamed_image", partial(_image, specimens.IMAGES[n % 12] if n % 12 < 7 else "JPEG"))
    for n in range(40):
        yield _case(f"class folder {n}", "data_folder", _class_folder)
    for n in range(200):
        yield _case(f"checkpoint {n}", "checkpoint", partial(_one, "m.gleanet", specimens.checkpoint, n % 4 != 0))
    for n in range(240):
        kind = ("zip", "old", "safetensors")[n % 3]
        yield _case(f"weights {kind} {n}", "weights", partial(_one, "w.pt", partial(specimens.weights, kind), n % 2 == 0))
    for n in range(60):
        yield _case(f"training state {n}", "training_state", partial(_one, "train.state", specimens.training_state, n % 4 != 0))
    for n in range(260):
        reader = "onnx_graph" if n % 4 == 0 else "onnx_file"
        yield _case(f"onnx {n}", reader, partial(_one, "m.onnx", partial(specimens.onnx_file, n % 5 == 0), False))
    for n in range(100):
        yield _case(f"config {n}", "config", partial(_text, "c.toml", lambda: specimens.CONFIG))
    for n in range(60):
        yield _case(f"sweep {n}", "sweep_file", partial(_text, "s.toml", lambda: specimens.SWEEP))
    for n in range(140):
        yield _case(f"run folder {n}", "run_folder", partial(_text, "run/run.json", specimens.run_record))
    for n in range(60):
        yield _case(f"answers {n}", "answers", partial(_text, "run/answers.json", specimens.answers_file))
    for n in range(60):
        yield _case(f"plan {n}", "plan", partial(_text, "plan.json", specimens.plan_file))


def _case(name: str, reader: str, make: Callable[[Path, Random], None]) -> Case:
    return Case(name, reader, lambda folder: make(folder, np.random.default_rng([SEED, zlib.crc32(name.encode())])))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _parquet(broken: str, folder: Path, rng: Random) -> None:
    for name in ("train.parquet", "test.parquet"):
        _put(folder / "data" / name, damage(specimens.parquet(), rng) if name == broken else specimens.parquet())


def _pickle(protocol: int, folder: Path, rng: Random) -> None:
    _put(folder / "data" / "data_batch_1", _edge(specimens.cifar_pickle(protocol), 400, rng))
    _put(folder / "data" / "test_batch", specimens.cifar_pickle(2))


def _meta(folder: Path, rng: Random) -> None:
    _put(folder / "data" / "data_batch_1", specimens.cifar_pickle(2))
    _put(folder / "data" / "test_batch", specimens.cifar_pickle(2))
    _put(folder / "data" / "batches.meta", damage(specimens.cifar_meta(), rng))


def _binary(folder: Path, rng: Random) -> None:
    _put(folder / "data" / "data_batch_1.bin", damage(specimens.cifar_binary(), rng))
    _put(folder / "data" / "test_batch.bin", specimens.cifar_binary())
    if rng.random() < 0.3:
        _put(folder / "data" / "batches.meta.txt", damage(b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", rng))


def _tar(folder: Path, rng: Random, *, outside: bool) -> None:
    data = specimens.tar()
    _put(folder / "tiny.tar.gz", damage(specimens.gz(data), rng) if outside else specimens.gz(damage(data[:2560], rng) + data[2560:]))


def _image(kind: str, folder: Path, rng: Random) -> None:
    _put(folder / "image", damage(specimens.image(kind), rng))


def _class_folder(folder: Path, rng: Random) -> None:
    for name in ("cat", "dog"):
        for n in range(2):
            kind = specimens.IMAGES[int(rng.integers(7))]
            data = specimens.image(kind)
            _put(folder / "data" / name / f"{n}.jpg", damage(data, rng) if (name, n) == ("dog", 1) else data)


def _one(name: str, specimen: Callable[[], bytes], head: bool, folder: Path, rng: Random) -> None:
    """``head``: the damage lands where a file says what it holds."""
    data = specimen()
    _put(folder / name, _edge(data, 4096, rng) if head else damage(data, rng))


def _edge(data: bytes, size: int, rng: Random) -> bytes:
    """Damage in the first or the last ``size`` bytes: most of the rest are pixels or weights, of which one is as good as another."""
    if rng.random() < 0.5:
        return damage(data[:size], rng) + data[size:]
    return data[:-size] + damage(data[-size:], rng)


def _text(name: str, specimen: Callable[[], bytes], folder: Path, rng: Random) -> None:
    data = specimen()
    for _ in range(int(rng.integers(1, 3))):
        data = damage_text(data, rng)
    _put(folder / name, data)
