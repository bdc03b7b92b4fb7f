"""Small data sets in every layout, made of seeded noise."""

import io
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from gleanet.data.images import ImageSet


def noise(n: int, height: int = 32, width: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [n, 3, height, width]."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), dtype=np.uint8)


def image_set(n: int, n_classes: int = 10, size: int = 8, seed: int = 0) -> ImageSet:
    labels = np.arange(n, dtype=np.int64) % n_classes
    return ImageSet(images=noise(n, size, size, seed), labels=labels, classes=tuple(map(str, range(n_classes))), name="noise")


def encoded(image: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    """uint8 [3, H, W] -> the bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).copy()).save(file, kind, **options)
    return file.getvalue()


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    image: str = "img",
    label: str = "label",
    metadata: bytes | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array(
        [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    table = pa.table({image: column, label: pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata({b"huggingface": metadata} if metadata else None), path, row_group_size=7)


def parquet_folder(folder: Path, n_train: int = 20, n_test: int = 10, n_classes: int = 10) -> NDArray[np.uint8]:
    """train.parquet and test.parquet with lossless images, labels 0, 1, 2, ...; returns the training pixels."""
    pixels = noise(n_train)
    write_parquet(folder / "train.parquet", [encoded(image) for image in pixels], [i % n_classes for i in range(n_train)])
    write_parquet(folder / "test.parquet", [encoded(image) for image in noise(n_test, seed=1)], [i % n_classes for i in range(n_test)])
    return pixels


def cifar_python(folder: Path, per_batch: int = 10, n_test: int = 10) -> None:
    """The official CIFAR-10 Python layout, labels 0, 1, 2, ..."""
    folder.mkdir(parents=True)
    for name, n in (*((f"data_batch_{i}", per_batch) for i in range(1, 6)), ("test_batch", n_test)):
        batch = {"data": noise(n).reshape(n, -1), "labels": [i % 10 for i in range(n)], "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    words = "airplane automobile bird cat deer dog frog horse ship truck"
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": words.split(), "num_vis": 3072}, protocol=2))


def tar_gz(path: Path, members: Mapping[str, bytes], extra: Sequence[tarfile.TarInfo] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info)


def tree(folder: Path, prefix: str) -> dict[str, bytes]:
    """The files directly in ``folder`` as archive members below ``prefix``."""
    return {f"{prefix}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


def class_folders(root: Path, classes: Sequence[str], per_class: int = 3, size: int = 8, kind: str = "PNG") -> None:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i, image in enumerate(noise(per_class, size, size, seed=c)):
            (root / name / f"{i}.{kind.lower()}").write_bytes(encoded(image, kind))


def photographs(root: Path, classes: Sequence[str], per_class: int, sides: tuple[int, int] = (20, 90), seed: int = 0) -> None:
    """Class folders of JPEGs of various sizes: smooth colours with some noise, so that they decode like pictures and not like static."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            width, height = rng.integers(*sides, 2).tolist()
            coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
            pixels = np.asarray(coarse).astype(np.int64) + rng.integers(-9, 10, (height, width, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{i:04}.JPEG", quality=90)
