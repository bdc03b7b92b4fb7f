"""Small files that claim to be large: pixels, texts, archives, tensors, headers, nesting."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from gleanet.nn import build
from tests.data.tiny import encoded, noise, write_parquet
from tests.fuzz import specimens
from tests.fuzz.graphs import large_graphs
from tests.fuzz.making import Make, nested, renamed, tar_gz, write
from tests.fuzz.odd_records import run_with_raw


def bombs() -> Iterator[tuple[str, str, Make]]:
    """Small files that claim to be large."""
    for kind, data in _huge_images().items():
        yield f"50,000 x 50,000 {kind}", "image", write("image", data)
        yield f"50,000 x 50,000 {kind}, streamed", "streamed_image", write("image", data)
        yield f"50,000 x 50,000 {kind} in a folder", "data_folder", partial(_class_folder, data)
        yield f"50,000 x 50,000 {kind} in Parquet", "data_folder", partial(_in_parquet, data)
    yield "PNG with a text that unpacks to 300 MB", "image", write("image", _png_text_bomb)
    yield (
        "an archive whose member has 3 GB",
        "archive",
        write("tiny.tar.gz", partial(_gz_of_zeros, _tar_header("tiny/one", 3 << 30), 3 << 30)),
    )
    yield (
        "an archive whose name has 3 GB",
        "archive",
        write("tiny.tar.gz", partial(_gz_of_zeros, _tar_header("name", 3 << 30, tarfile.GNUTYPE_LONGNAME), 3 << 30)),
    )
    yield (
        "an archive whose header has 3 GB",
        "archive",
        write("tiny.tar.gz", partial(_gz_of_zeros, _tar_header("name", 3 << 30, tarfile.XHDTYPE), 3 << 30)),
    )
    yield (
        "an archive of 20,000 empty members",
        "archive",
        write("tiny.tar.gz", partial(tar_gz, {f"tiny/{n}": b"" for n in range(20_000)})),
    )
    for entry, numel, size, stride in (
        ("as large as memory is not", 1, (1 << 20, 1 << 20), (0, 0)),
        ("beyond its storage", 4, (1000,), (1,)),
        ("of negative size", 4, (-4,), (1,)),
        ("of negative stride", 4, (2,), (-1,)),
        ("of 2^62 values", 1, (1 << 62,), (1,)),
        ("of 100 dimensions", 1, (1,) * 100, (1,) * 100),
    ):
        yield f"a torch tensor {entry}", "weights_of_a_name", write("w.pt", partial(_torch_tensor, numel, size, stride))
    odd: dict[str, Callable[[], object]] = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "meta": lambda: torch.empty(1 << 40, device="meta"),
        "complex": lambda: torch.zeros(3, dtype=torch.cfloat),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
        "a parameter": lambda: torch.nn.Parameter(torch.zeros(3)),
        "expanded": lambda: torch.zeros(1).expand(1 << 20, 1 << 20),
        "no tensor": lambda: [1, 2],
        "a deep dict": lambda: nested(200),
        "float8": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
        "bfloat16 NaN": lambda: torch.full((3,), float("nan"), dtype=torch.bfloat16),
    }
    for word, make in odd.items():
        yield (
            f"a torch tensor that is {word}",
            "weights_of_a_name",
            write("w.pt", partial(lambda make: specimens.torch_file({"conv1.weight": make()}, "zip"), make)),
        )
    yield "a torch file as it should be", "weights_of_a_name", write("w.pt", _good_weights)
    yield "a torch file that unpacks to 3 GB", "weights_of_a_name", write("w.pt", _zip_of_zeros)
    shapes: tuple[tuple[list[int], list[int]], ...] = (
        ([1 << 40], [0, 1 << 42]),
        ([1 << 62, 4], [0, 16]),
        ([-1], [0, 4]),
        ([2], [8, 0]),
        ([2], [0, 1 << 63]),
        ([0, 1 << 60], [0, 0]),
    )
    for shape, offsets in shapes:
        header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
        for name, reader in (("w.safetensors", "weights_of_a_name"), ("m.gleanet", "checkpoint")):
            yield f"safetensors {shape} at {offsets}, as {name}", reader, write(name, struct.pack("<Q", len(header)) + header + bytes(16))
    for length in (0, 1, 1 << 20, (1 << 27) - 1, 1 << 40, (1 << 64) - 1):
        yield f"safetensors with a header of {length}", "weights_of_a_name", write("w.safetensors", struct.pack("<Q", length) + b'{"a":1}')
        yield f"checkpoint with a header of {length}", "checkpoint", write("m.gleanet", struct.pack("<Q", length) + b'{"a":1}')
    deep = b"[" * 100_000 + b"]" * 100_000
    for name, reader in (("run/run.json", "run_folder"), ("plan.json", "plan"), ("c.toml", "config")):
        yield f"deep nesting in {name}", reader, write(name, (b"x = " if name == "c.toml" else b"") + deep)
        yield f"a million zeros in {name}", reader, write(name, (b"seed = " if name == "c.toml" else b"") + b"1" + b"0" * 1_000_000)
    yield "deep nesting in a run's settings", "run_folder", write("run/run.json", partial(run_with_raw, "settings", deep))
    for depth in (8_000, 50_000):
        yield f"{depth} tables in tables in c.toml", "config", write("c.toml", b"a." * depth + b"b = 1")
    yield "deep nesting in a checkpoint", "checkpoint", write("m.gleanet", partial(renamed, {"kwargs": {"num_classes": nested(900)}}))
    yield from large_graphs()


def _huge_images() -> dict[str, bytes]:
    side = 50_000
    rows = zlib.compress(bytes(10_000))
    jpeg = bytearray(specimens.image("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    gif = bytearray(specimens.image("GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    block = gif.index(b"\x2c")
    gif[block + 5 : block + 9] = struct.pack("<HH", side, side)
    bmp = bytearray(specimens.image("BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    tiff = bytearray(encoded(noise(1, 16, 16)[0], "TIFF"))
    for tag in (256, 257):
        at = (
            tiff.index(struct.pack("<H", tag) + b"\x04\x00")
            if struct.pack("<H", tag) + b"\x04\x00" in tiff
            else tiff.index(struct.pack("<H", tag) + b"\x03\x00")
        )
        tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
    return {
        "PNG": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", rows)
        + _chunk(b"IEND", b""),
        "JPEG": bytes(jpeg),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "TIFF": bytes(tiff),
        "PPM": f"P6 {side} {side} 255\n".encode() + bytes(1000),
    }


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_text_bomb() -> bytes:
    data = specimens.image("PNG")
    text = _chunk(b"zTXt", b"k\0\0" + _deflated_zeros(300 << 20, zlib.MAX_WBITS))
    return data[:33] + text + data[33:]


def _deflated_zeros(size: int, wbits: int) -> bytes:
    """``size`` zeros, compressed without compressing them all: one block of them, again and again. (No checksum.)"""
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    return (b"\x78\xda" if wbits > 0 else b"") + block * (size >> 20) + b"\x03\x00"


def _gz_of_zeros(start: bytes, size: int) -> bytes:
    """A gzip file of ``start`` and ``size`` zeros."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = pack.compress(start) + pack.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first + _deflated_zeros(size, -zlib.MAX_WBITS) + bytes(8)


def _tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _class_folder(data: bytes, folder: Path) -> None:
    for name in ("cat", "dog"):
        for n in range(2):
            write(f"data/{name}/{n}.png", data if (name, n) == ("dog", 1) else specimens.image("PNG"))(folder)


def _in_parquet(data: bytes, folder: Path) -> None:
    write_parquet(folder / "data" / "train.parquet", [specimens.image("PNG"), data], [0, 1])
    write_parquet(folder / "data" / "test.parquet", [specimens.image("PNG")] * 2, [0, 1])


def _torch_tensor(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A torch zip file whose one tensor has a shape that its storage does not bear out."""
    out = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(numel)}, out)
    source = zipfile.ZipFile(io.BytesIO(out.getvalue()))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            data = source.read(item)
            target.writestr(zipfile.ZipInfo(item.filename), _program(numel, size, stride) if item.filename.endswith("data.pkl") else data)
    return changed.getvalue()


def _good_weights() -> bytes:
    return specimens.torch_file(build("resnet8", seed=0).state_dict(), "zip")


def _program(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of {"conv1.weight": tensor}, written by hand, as torch writes it."""

    def plain(value: object) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]

    storage = b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu") + plain(numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + plain(0) + plain(size) + plain(stride) + b"\x89" + hooks + b"t"
    return b"\x80\x02}" + plain("conv1.weight") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def _zip_of_zeros() -> bytes:
    """A torch zip file whose data unpack to 3 GB."""
    size = 3 << 30
    packed = _deflated_zeros(size, -zlib.MAX_WBITS)
    entries = [
        ("archive/data.pkl", _program(size // 4, (size // 4,), (1,)), None),
        ("archive/version", b"3\n", None),
        ("archive/data/0", packed, size),
        ("archive/byteorder", b"little", None),
    ]
    out, directory = io.BytesIO(), b""
    for name, data, unpacked in entries:
        method, crc = (8, 0) if unpacked else (0, zlib.crc32(data))
        fields = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0x21, crc, len(data), unpacked or len(data), len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, out.tell()) + name.encode()
        out.write(b"PK\x03\x04" + fields + name.encode() + data)
    start = out.tell()
    return out.getvalue() + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), start, 0)
