"""One whole, valid file of every kind that gleanet reads, made of seeded noise, as bytes: the same bytes in every process."""

import gzip
import io
import pickle
import re
import struct
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from gleanet.core.records import dumps
from gleanet.data.download import Archive
from gleanet.nn import build
from gleanet.nn import save as save_network
from gleanet.prune import Plan, apply, plan
from gleanet.train.resume import Standing, write
from tests import tiny_onnx
from tests.data.tiny import encoded, noise, write_parquet
from tests.report.example import example_answers, example_run

IMAGES = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
ARCHIVE = Archive("tiny.tar.gz", "http://nowhere.invalid/tiny.tar.gz", "", "tiny", ("one", "two"))
CONFIG = b"""\
data = "nowhere"
epochs = 2
lr = 0.1
batch-size = 64
weight_decay = 5e-4
label-smoothing = 0.1
seed = 3
threads = 1
device = "cpu"
activation = "mish"
json = true
"""

SWEEP = b"""\
command = "train"
seeds = 3
baseline = { way = "one" }
retries = 1
[options]
model = "resnet8"
data = "digits"
epochs = 0.5
batch-size = 64
[grid]
lr = [0.1, 0.2]
way = [{ name = "one", activation = "relu" }, { name = "two", activation = "mish", weight_decay = 0.0 }]
[resources]
cpus = 1
gpus = 0.5
"""


@cache
def image(kind: str) -> bytes:
    """A 16 x 16 image."""
    return encoded(noise(1, 16, 16)[0], kind)


@cache
def parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.parquet"
        names = b'{"info": {"features": {"label": {"names": ["<b>cat</b>", "dog", "eel"]}}}}'
        write_parquet(file, [encoded(one, "JPEG") for one in noise(9, 8, 8)], [i % 3 for i in range(9)], metadata=names)
        return file.read_bytes()


@cache
def cifar_pickle(protocol: int) -> bytes:
    batch = {"data": noise(2).reshape(2, -1), "labels": [3, 8], "batch_label": "one", "filenames": ["a.png", "b.png"]}
    return pickle.dumps(batch, protocol=protocol)


@cache
def cifar_meta() -> bytes:
    words = "airplane automobile bird cat deer dog frog horse ship truck"
    return pickle.dumps({"label_names": words.split(), "num_vis": 3072}, protocol=2)


@cache
def cifar_binary() -> bytes:
    return b"".join(bytes([label]) + one.tobytes() for label, one in zip((3, 8), noise(2), strict=True))


def tar(members: dict[str, bytes] | None = None, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A plain tar; ``extra``: members without content, as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in ({"tiny/one": b"1" * 700, "tiny/two": b"2" * 30} if members is None else members).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def gz(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


@cache
def network() -> nn.Module:
    """A resnet8 with a fifth of its work left."""
    whole = build("resnet8", seed=0).eval()
    return apply(whole, plan_of(0.2))


@cache
def plan_of(flops: float) -> Plan:
    return plan(build("resnet8", seed=0).eval(), torch.zeros(1, 3, 16, 16), flops=flops, criterion="l2", allocation="uniform", align=1)


@cache
def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_network(network(), Path(folder) / "m.gleanet", history={"note": "fuzz"})
        return (Path(folder) / "m.gleanet").read_bytes()


@cache
def weights(kind: str) -> bytes:
    """A state dict as torch's zip file, torch's old format, or safetensors."""
    state = {name: tensor.contiguous().clone() for name, tensor in network().state_dict().items()}
    if kind == "safetensors":
        return safetensors.torch.save(state)
    if kind == "old":  # one storage for all: several would be written in the order of their addresses
        state = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        flat = torch.cat([tensor.view(-1) for tensor in state.values()])
        parts = torch.split(flat, [tensor.numel() for tensor in state.values()])
        state = {name: part.view(tensor.shape) for (name, tensor), part in zip(state.items(), parts, strict=True)}
    return torch_file({"state_dict": state}, kind)


def torch_file(value: object, kind: str) -> bytes:
    """What torch writes, the same every time: its old format names storages by their address, here they are numbered."""
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=kind == "zip")
    if kind == "zip":
        return out.getvalue()
    known: dict[bytes, bytes] = {}

    def number(found: re.Match[bytes]) -> bytes:
        name = known.setdefault(found[2], b"%012d" % len(known))
        return b"X" + struct.pack("<I", len(name)) + name if struct.unpack("<I", found[1])[0] == len(found[2]) else found[0]

    return re.sub(rb"X(.\x00\x00\x00)(\d{8,20})", number, out.getvalue(), flags=re.DOTALL)


def optimizer_of(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


@cache
def training_state() -> bytes:
    net = network()
    sgd = optimizer_of(net)
    for parameter in net.parameters():
        sgd.state[parameter]["momentum_buffer"] = torch.full_like(parameter, 0.5)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "s", net, sgd, Standing({"seed": "0"}, 7, 0.1, (), (0.5, 0.25)))
        return (Path(folder) / "s").read_bytes()


@cache
def onnx_file(pixels: bool = False) -> bytes:
    preprocess = '{"layout": "NCHW", "color": "RGB", "range": [0, 1], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}'
    metadata = {"gleanet.classes": '["<b>a</b>", "b", "c", "d"]'} | ({} if pixels else {"gleanet.preprocess": preprocess})
    return bytes(tiny_onnx.convnet(channels=4, pixels=pixels, metadata=metadata).SerializeToString(deterministic=True))


@cache
def run_record() -> bytes:
    return dumps(example_run())


@cache
def answers_file() -> bytes:
    return dumps(example_answers(200))


@cache
def plan_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plan_of(0.5).save(Path(folder) / "plan.json")
        return (Path(folder) / "plan.json").read_bytes()
