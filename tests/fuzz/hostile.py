"""Files made by hand to do harm: to run code, to leave their folder, to eat memory or time, to get markup or control codes into a page."""

import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tests.fuzz import specimens
from tests.fuzz.bombs import bombs
from tests.fuzz.graphs import external
from tests.fuzz.making import Make, both, renamed, tar_gz, write
from tests.fuzz.odd_records import not_finite, odd_records

CANARY = "executed"


def cases() -> Iterator[tuple[str, str, Make]]:
    """(name, reader, how to make it)."""
    yield from _code()
    yield from _climbing()
    yield from bombs()
    yield from not_finite()
    yield from odd_records()


class Bomb:
    """Unpickled, it calls a function with these arguments."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def _code() -> Iterator[tuple[str, str, Make]]:
    """Pickles that would run code, in every place where a pickle may stand."""
    shell = f"touch ../{CANARY} {CANARY}"
    bombs: dict[str, object] = {
        "os.system": Bomb(os.system, shell),
        "exec": Bomb(exec, f"open({CANARY!r}, 'w').close()"),
        "eval": Bomb(eval, f"open({CANARY!r}, 'w')"),
        "open": Bomb(open, CANARY, "w"),
        "Path.touch": Bomb(Path.touch, Path(CANARY)),
        "nested": {"labels": [1, Bomb(os.system, shell)]},
        "as a key": {Bomb(os.system, shell): 1},
        "numpy.load": Bomb(np.load, CANARY),
        "getattr": Bomb(getattr, shell, "upper"),
    }
    for name, bomb in bombs.items():
        for protocol in (0, 2, 4):
            try:
                data = pickle.dumps({"data": bomb}, protocol=protocol)
            except (TypeError, pickle.PicklingError):
                data = pickle.dumps({"data": Bomb(os.system, shell)}, protocol=protocol)
            yield f"code in a CIFAR pickle: {name}, protocol {protocol}", "data_folder", _cifar(data)
            yield f"code in a pickled checkpoint: {name}, protocol {protocol}", "weights_of_a_name", write("w.pt", data)
        yield (
            f"code in a torch checkpoint: {name}",
            "weights_of_a_name",
            write("w.pt", partial(specimens.torch_file, {"state_dict": bomb}, "zip")),
        )
        yield (
            f"code in an old torch checkpoint: {name}",
            "weights_of_a_name",
            write("w.th", partial(specimens.torch_file, {"state_dict": bomb}, "old")),
        )
    for opcode in (
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"(S'touch executed'\nios\nsystem\n.",
        b"\x80\x02cbuiltins\nexec\n(X\x01\x00\x00\x00xtR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"\x80\x02P0\n.",
        b"\x80\x02\x82\x01.",
        b"cnumpy\ndtype\n(tR.",
        b"cnumpy\nndarray\n(tR}S'x'\nS'y'\nsb.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
        b"(lp0\ng0\na.",
        b"(d" + b"(d" * 5000 + b".",
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        b"r\xff\xff\xff\x7f.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"Np2000000000\n.",
        b"F1e999\n.",
        b"",
        b".",
        b"N.",
        b"].",
    ):
        yield f"instructions {opcode[:24]!r} ({len(opcode)})", "data_folder", _cifar(opcode)
        yield f"instructions for torch {opcode[:24]!r} ({len(opcode)})", "weights_of_a_name", write("w.pt", opcode)
    yield "a checkpoint that names code", "checkpoint", write("m.gleanet", partial(renamed, {"factory": "os:system", "kwargs": {}}))
    yield "a checkpoint that names a module", "checkpoint", write("m.gleanet", partial(renamed, {"factory": "antigravity:x"}))


def _cifar(batch: bytes) -> Make:
    return both(write("data/data_batch_1", batch), write("data/test_batch", lambda: specimens.cifar_pickle(2)))


def _climbing() -> Iterator[tuple[str, str, Make]]:
    """Archives, links and external data that point out of their folder."""
    whole = {"tiny/one": b"1", "tiny/two": b"2"}
    for name in (
        "../evil",
        "tiny/../../evil",
        "/tmp/evil-gleanet",
        "tiny/../../outside/evil",
        "tiny//evil",
        "tiny/one/../../evil",
        "evil",
        "..",
        ".",
        "",
        "tiny",
        "tiny/",
        "tiny/..",
        "C:\\evil",
        "tiny\\..\\evil",
        "tiny/\0evil",
        "tiny/one\n",
        "t" * 300 + "/one",
    ):
        yield f"an archive with {name[:30]!r}", "archive", write("tiny.tar.gz", partial(tar_gz, {**whole, name: b"evil"}))
    kinds = {
        "symbolic link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
        "contiguous": tarfile.CONTTYPE,
        "sparse": tarfile.GNUTYPE_SPARSE,
        "unknown": b"Z",
        "block": tarfile.BLKTYPE,
    }
    for word, kind in kinds.items():
        for target in ("../../outside/canary", "/etc/passwd", "one"):
            yield f"an archive with a {word} to {target}", "archive", write("tiny.tar.gz", partial(tar_gz, whole, _member(kind, target)))
    yield (
        "a link, then a file through it",
        "archive",
        write("tiny.tar.gz", partial(tar_gz, whole, _member(tarfile.SYMTYPE, ".."), _member(tarfile.REGTYPE, "", "tiny/link/evil"))),
    )
    for location in (
        "../../outside/canary",
        "/etc/passwd",
        "link",
        "linked/canary",
        "sub/../../../outside/canary",
        "",
        ".",
        "..",
        "\0",
        "a\\..\\b",
        "C:canary",
        "missing.bin",
        "file:///etc/passwd",
        "data.bin\n",
        "m.onnx",
    ):
        yield f"external data at {location!r}", "onnx_file", partial(external, {"location": location})
        yield f"external data read from {location!r}", "onnx_graph", partial(external, {"location": location})
    for offset, length in (("-1", "4"), ("0", "-4"), ("99999999999999", "4"), ("0", "99999999999999"), ("x", "4"), ("", ""), ("1e9", "1")):
        entries = {"location": "data.bin", "offset": offset, "length": length}
        yield f"external data from {offset!r}, {length!r} long", "onnx_file", partial(external, entries)
        yield f"external data read from {offset!r}, {length!r} long", "onnx_graph", partial(external, entries)


def _member(kind: bytes, target: str, name: str = "tiny/link") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
