"""Bea-Mish on the CPU in one pass over memory: ``beamish.c``, compiled once with the machine's own C compiler and kept in the cache.

Where there is no compiler (or ``GLEANET_NATIVE=0``), :mod:`gleanet.nn.beamish_blocks` computes the same from torch's operations, slower.
"""

import ctypes
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from gleanet.core.errors import StoreError
from gleanet.core.files import replacing
from gleanet.nn.beamish_blocks import Factor, Gradients, dense, plain_value

SOURCE = Path(__file__).with_name("beamish.c")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fPIC", "-shared")
PART = 1 << 16  # numbers that are worth a thread

Floats = ctypes.Array[ctypes.c_float]
Part = tuple[int, int, int]
_One = ctypes.c_float * 1
_POINTER, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS: dict[str, list[type]] = {
    "gleanet_beamish": [_POINTER] * 4 + [_COUNT] * 3,
    "gleanet_beamish_grad_x": [_POINTER] * 3 + [_FLOAT] * 2 + [_COUNT],
    "gleanet_beamish_grads": [_POINTER] * 7 + [_COUNT] * 3,
}


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled functions, or None; and where they are, or why there are none."""
    if os.environ.get("GLEANET_NATIVE") == "0":
        return None, "GLEANET_NATIVE is 0"
    compilers = [found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := shutil.which(name))]
    if sys.platform == "win32" or not compilers:
        return None, "no C compiler was found"
    compiler = compilers[0]
    key = hashlib.sha256("\0".join([SOURCE.read_text("utf-8"), platform.machine(), compiler, *FLAGS]).encode()).hexdigest()
    chosen = os.environ.get("GLEANET_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gleanet"
    path = folder / "native" / f"beamish-{key[:20]}.so"
    try:
        if not path.is_file():
            _compile(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, StoreError, subprocess.SubprocessError) as error:
        return None, f"{compiler} gave nothing that loads: {(str(error).splitlines() or [''])[0]}"
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    if not _is_right(loaded):
        return None, f"what {compiler} made computes something else"
    return loaded, str(path)


def _compile(compiler: str, path: Path) -> None:
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "beamish.so"
        for wide in (["-mprefer-vector-width=512"], []):  # not every compiler has the flag
            done = subprocess.run(
                [compiler, *FLAGS, *wide, str(SOURCE), "-o", str(made), "-lm"], capture_output=True, timeout=60, check=False
            )
            if done.returncode == 0:
                temporary.write_bytes(made.read_bytes())
                return
        done.check_returncode()


def _is_right(loaded: ctypes.CDLL) -> bool:
    x = torch.linspace(-30.0, 30.0, 1001, device="cpu", dtype=torch.float32)
    y = torch.empty_like(x)
    factor = _One(1.25)
    loaded.gleanet_beamish(x.data_ptr(), y.data_ptr(), factor, factor, 1, 1, len(x))
    return torch.allclose(y, plain_value(x.double(), 1.25, 1.25).float(), rtol=1e-5, atol=1e-30)


def native_value(loaded: ctypes.CDLL, x: Tensor, alpha: Factor, beta: Factor) -> Tensor:
    """f(x); ``x`` on the CPU with at most 32 bits. Dtype and memory layout of ``x``."""
    given = _single(dense(x))
    y = torch.empty_like(given)
    a, b = _pointers(alpha, beta)
    start, to = given.data_ptr(), y.data_ptr()

    def work(first: int, outer: int, inner: int) -> None:
        loaded.gleanet_beamish(start + 4 * first, to + 4 * first, a, b, outer, len(a), inner)

    _run(work, _parts(given, len(a)))
    return y if y.dtype == x.dtype else y.to(x.dtype)


def native_slopes(loaded: ctypes.CDLL, grad: Tensor, x: Tensor, alpha: Factor, beta: Factor) -> Gradients:
    """Gradients for x, and for the factors where they are tensors, each of its own dtype."""
    given, g = _single(dense(x)), _single(grad)
    if g.stride() != given.stride():
        g = torch.empty_like(given).copy_(g)
    grad_x = torch.empty_like(given)
    found: tuple[Tensor | None, Tensor | None] = None, None
    if isinstance(alpha, Tensor) and isinstance(beta, Tensor):
        found = _factor_slopes(loaded, given, g, grad_x, alpha, beta)
    else:
        start, other, to = given.data_ptr(), g.data_ptr(), grad_x.data_ptr()

        def work(first: int, outer: int, inner: int) -> None:
            loaded.gleanet_beamish_grad_x(start + 4 * first, other + 4 * first, to + 4 * first, alpha, beta, inner)

        _run(work, _parts(given, 1))
    return grad_x if grad_x.dtype == x.dtype else grad_x.to(x.dtype), *found


def _factor_slopes(loaded: ctypes.CDLL, x: Tensor, g: Tensor, grad_x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _pointers(alpha, beta)
    parts = _parts(x, len(a))
    sums = torch.zeros(max(1, len(parts)), 2, len(a), dtype=torch.float64, device="cpu")
    room = dict(zip(parts, sums, strict=False))
    start, other, to = x.data_ptr(), g.data_ptr(), grad_x.data_ptr()

    def work(first: int, outer: int, inner: int) -> None:
        ga, gb = (part.data_ptr() for part in room[first, outer, inner])
        loaded.gleanet_beamish_grads(start + 4 * first, other + 4 * first, to + 4 * first, ga, gb, a, b, outer, len(a), inner)

    _run(work, parts)
    ga, gb = sums.sum(0)
    return _shaped(ga, alpha), _shaped(gb, beta)


def _single(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else x.float()


def _shaped(total: Tensor, factor: Tensor) -> Tensor:
    """Sums [channels] as the gradient of a factor that may be one for all channels."""
    return (total if factor.numel() == len(total) else total.sum()).view(factor.shape).to(factor.dtype)


def _pointers(alpha: Factor, beta: Factor) -> tuple[Floats, Floats]:
    """Numbers and tensors as C arrays [channels]."""
    if not isinstance(alpha, Tensor) and not isinstance(beta, Tensor):
        return _One(alpha), _One(beta)
    flat = [f.detach().reshape(-1).tolist() if isinstance(f, Tensor) else [f] for f in (alpha, beta)]
    channels = max(map(len, flat))
    a, b = ((ctypes.c_float * channels)(*(each if len(each) == channels else each * channels)) for each in flat)
    return a, b


def _parts(x: Tensor, channels: int) -> list[Part]:
    """(first number, outer, inner) of equal parts of memory [outer, channels, inner], one a thread where there is enough for all."""
    count = x.numel()
    if channels == 1:  # one long row, to be cut anywhere
        cuts, inner = count, 1
    elif x.is_contiguous():
        cuts, inner = x.shape[0], count // max(1, x.shape[0] * channels)
    else:  # channels last
        cuts, inner = count // channels, 1
    threads = min(torch.get_num_threads(), count // PART, cuts)
    if threads < 2:
        return [(0, 1, cuts) if channels == 1 else (0, cuts, inner)] if count else []
    bounds = [cuts * part // threads for part in range(threads + 1)]
    ranges = [(start, end - start) for start, end in itertools.pairwise(bounds) if end > start]
    return [(start, 1, length) if channels == 1 else (start * channels * inner, length, inner) for start, length in ranges]


def _run(work: Callable[[int, int, int], None], parts: list[Part]) -> None:
    """All parts at once: the last one here, the others in threads that are kept for the next time."""
    if not parts:
        return
    others = [_pool(len(parts) - 1).submit(work, *part) for part in parts[:-1]]
    work(*parts[-1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gleanet-beamish")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
