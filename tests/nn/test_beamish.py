"""Bea-Mish: value and gradients against mpmath in both implementations, and everything torch may do with the function."""

import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gleanet.core.errors import SettingsError
from gleanet.nn import BeaMish, Swish, beamish
from gleanet.nn.beamish_blocks import BLOCK
from gleanet.nn.beamish_native import PART, library

PAIRS = [(1.0, 1.0), (1.0, 1.5), (0.3, 2.0), (1.13, 2.5), (3.3, 4.0), (4.0, 0.7), (20.0, 20.0), (0.1, 0.1), (1.0, 0.5)]
SMALLEST = {"native": 2.0**-126, "blocks": 2.0**-100}  # results below it may be rounded to 0: the first is the smallest normal float32


@pytest.fixture(params=["native", "blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The compiled functions, and torch's operations in their place."""
    if request.param == "blocks":
        monkeypatch.setenv("GLEANET_NATIVE", "0")
    library.cache_clear()
    if request.param == "native" and library()[0] is None:
        pytest.skip(library()[1])
    yield request.param
    library.cache_clear()


def exact(x: mp.mpf, alpha: mp.mpf, beta: mp.mpf) -> list[mp.mpf]:
    """f and its derivatives by x, alpha and beta."""
    gate = mp.log1p(mp.e ** (alpha * x))
    t, shut, bend = mp.tanh(beta * gate), mp.sech(beta * gate) ** 2, 1 / (1 + mp.e ** (-alpha * x))
    return [x * t, t + x * shut * beta * bend * alpha, x * x * shut * beta * bend, x * gate * shut]


def with_scale(x: float, alpha: float, beta: float) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Exact results, and the scale of an ulp of each: how far it moves, relative to the move, when an argument moves by its last place."""
    arguments = [mp.mpf(x), mp.mpf(alpha), mp.mpf(beta)]
    base = exact(*arguments)
    scale, step = [abs(v) for v in base], mp.mpf(2) ** -60
    for index in range(3):
        moved = exact(*(a * (1 + step) if i == index else a for i, a in enumerate(arguments)))
        scale = [max(s, abs((m - b) / step)) for s, m, b in zip(scale, moved, base, strict=True)]
    return base, scale


def worst_ulp(found: list[Tensor], x: Tensor, alpha: float, beta: float, smallest: float) -> float:
    """The largest error of value and derivatives (each [n]) in ulp."""
    worst = 0.0
    with mp.workprec(150):
        for index, point in enumerate(x.tolist()):
            base, scale = with_scale(point, alpha, beta)
            for value, right, unit in zip(found, base, scale, strict=False):
                error = abs(mp.mpf(float(value[index])) - right)
                rounded_away = smallest if abs(right) < smallest else 0.0
                worst = max(worst, float(max(mp.mpf(0), error - rounded_away) / max(unit, smallest) * 2**23))
                assert math.isfinite(float(value[index]))
    return worst


def points(alpha: float) -> list[Tensor]:
    """Both signs, every magnitude from 1e-6 to 1e4, 0, and where the function bends; those far left apart."""
    sizes = torch.logspace(-6, 4, 41)
    x = torch.cat([-sizes, torch.zeros(1), sizes, torch.linspace(-100, 20, 60) / alpha])
    return [x[x * alpha > -84], x[x * alpha <= -84]]


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_value_and_gradients_are_within_4_ulp_from_minus_1e4_to_1e4(alpha: float, beta: float, way: str) -> None:
    alpha, beta = float(torch.tensor(alpha)), float(torch.tensor(beta))
    for x in points(alpha):
        a, b = (torch.full((len(x),), value, requires_grad=True) for value in (alpha, beta))
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = beamish(one.view(1, -1), a, b)[0]  # a factor for each point, so that its gradient is not a sum
        y.sum().backward()  # type: ignore[no-untyped-call]
        z = beamish(other, alpha, beta)
        z.sum().backward()  # type: ignore[no-untyped-call]
        assert one.grad is not None and a.grad is not None and b.grad is not None and other.grad is not None  # noqa: PT018
        assert worst_ulp([y.detach(), one.grad, a.grad, b.grad], x, alpha, beta, SMALLEST[way]) <= 4
        assert worst_ulp([z.detach(), other.grad], x, alpha, beta, SMALLEST[way]) <= 4


def test_the_compiled_function_keeps_its_digits_on_the_far_left() -> None:
    """exp(alpha x) magnifies the rounding of alpha x there, to 40 ulp of the result; the compiled function allows for that rounding."""
    if library()[0] is None:
        pytest.skip(library()[1])
    alpha, beta = float(torch.tensor(1.13)), 1.5
    x = torch.linspace(-70, -1, 200)
    found = zip(x.tolist(), beamish(x, alpha, beta).tolist(), strict=True)
    with mp.workprec(150):
        errors = [abs(y / float(exact(mp.mpf(point), alpha, beta)[0]) - 1) * 2**23 for point, y in found]
    assert max(errors) <= 6


def test_where_there_is_a_compiler_its_work_is_used() -> None:
    if sys.platform == "win32" or shutil.which("cc") is None or os.environ.get("GLEANET_NATIVE") == "0":
        pytest.skip("no C compiler here")
    assert library()[0] is not None, library()[1]


@pytest.mark.parametrize("beta", [1.0, 0.3, 1.7])
def test_swish_value_and_gradient_are_within_4_ulp(beta: float) -> None:
    beta, smallest = float(torch.tensor(beta)), SMALLEST["native"]
    module = Swish(beta)
    for x in points(beta):
        x.requires_grad_()
        y = module(x)
        y.sum().backward()
        assert x.grad is not None
        worst = 0.0
        with mp.workprec(150):
            for point, value, slope in zip(x.tolist(), y.tolist(), x.grad.tolist(), strict=True):

                def f(z: mp.mpf) -> mp.mpf:
                    return z / (1 + mp.e ** (-beta * z))

                def d(z: mp.mpf) -> mp.mpf:
                    s = 1 / (1 + mp.e ** (-beta * z))
                    return s * (1 + beta * z * (1 - s))

                for right, got, unit in (
                    (f(point), value, abs(point * d(point))),
                    (d(point), slope, abs(point * mp.diff(d, point))),
                ):
                    error = abs(mp.mpf(got) - right) - (smallest if abs(right) < smallest else 0)
                    worst = max(worst, float(error / max(abs(right), unit, smallest) * 2**23))
        assert worst <= 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.5), (20.0, 20.0), (0.01, 0.3)])
def test_every_16_bit_number_gives_what_float32_gives(alpha: float, beta: float, dtype: torch.dtype, way: str) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    x = every[every.isfinite()].requires_grad_()
    wide = x.detach().float().requires_grad_()
    y, expected = beamish(x, alpha, beta), beamish(wide, alpha, beta)
    y.sum().backward()  # type: ignore[no-untyped-call]
    expected.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert wide.grad is not None
    assert y.dtype == x.grad.dtype == dtype
    assert bool(torch.isfinite(y).all())
    assert bool(torch.isfinite(x.grad).all())
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(x.grad, wide.grad.to(dtype))


@pytest.mark.parametrize(("module", "count"), [(BeaMish(1.2, 1.5), 1), (BeaMish(1.2, 1.3), 1), (BeaMish(learnable=True, channels=3), 3)])
def test_the_input_is_all_that_is_saved_when_the_factors_are_fixed(module: BeaMish, count: int, way: str) -> None:
    x = torch.randn(2, 3, 4, 4).requires_grad_()
    factors = (module.alpha, module.beta)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = beamish(x, *factors)
    assert len({t.data_ptr() for t in saved}) == len(saved) == count
    assert saved[0].data_ptr() == x.data_ptr()
    y.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("channels", [None, 3])
def test_gradients_of_input_and_both_factors(channels: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    shape = () if channels is None else (channels,)
    alpha, beta = ((torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(beamish, (x, alpha, beta))
    assert torch.autograd.gradgradcheck(beamish, (x, alpha, beta))
    assert torch.autograd.gradcheck(lambda z: beamish(z, 0.8, 1.5), (x,))
    assert torch.autograd.gradgradcheck(lambda z: beamish(z, 0.8, 1.5), (x,))


def test_second_derivatives_in_float32_are_those_of_float64(way: str) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        x = torch.linspace(-6, 6, 101, dtype=dtype, requires_grad=True)
        alpha = torch.tensor(1.3, dtype=dtype, requires_grad=True)
        (first,) = torch.autograd.grad(beamish(x, alpha, 0.9).sum(), x, create_graph=True)
        found.append([g.double() for g in torch.autograd.grad(first.square().sum(), (x, alpha))])
    for narrow, wide in zip(*found, strict=True):
        torch.testing.assert_close(narrow, wide, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does it
@pytest.mark.parametrize("module", [BeaMish(0.8, 1.5), BeaMish(0.8, 1.3, learnable=True), BeaMish(learnable=True, channels=3)], ids=repr)
def test_a_compiled_network_computes_the_same(module: BeaMish) -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    found = []
    for function in (module, compiled):
        leaf = x.clone().requires_grad_()
        module.zero_grad()
        function(leaf).square().sum().backward()
        found.append([leaf.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    for eager, other in zip(*found, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-6)


def test_vmap_over_inputs_factors_and_gradients(way: str) -> None:
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    alpha, beta = torch.rand(4) + 0.5, torch.rand(4) + 0.5

    def total(z: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
        return beamish(z, a, b).square().sum()

    one_by_one = [torch.func.grad(total, argnums=(0, 1, 2))(z, a, b) for z, a, b in zip(x, alpha, beta, strict=True)]
    mapped = torch.func.vmap(torch.func.grad(total, argnums=(0, 1, 2)))(x, alpha, beta)
    for index, parts in enumerate(zip(*one_by_one, strict=True)):
        torch.testing.assert_close(mapped[index], torch.stack(parts))
    fixed = torch.func.vmap(lambda z: beamish(z, 0.8, 1.5), in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(fixed, beamish(x, 0.8, 1.5))
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(total), in_dims=(0, None, None))(x, 0.8, 1.5),
        torch.stack([torch.func.grad(total)(z, 0.8, 1.5) for z in x]),
    )


@pytest.mark.parametrize("learnable", [False, True])
def test_a_batch_of_gradients_at_once(learnable: bool, way: str) -> None:
    x = torch.randn(5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    factors = [torch.tensor(v, requires_grad=True) for v in (0.8, 1.3)] if learnable else [0.8, 1.3]
    y = beamish(x, *factors)
    leaves = [x, *(f for f in factors if isinstance(f, Tensor))]
    together = torch.autograd.grad(y, leaves, torch.eye(5), is_grads_batched=True, retain_graph=True)
    for index, row in enumerate(torch.eye(5)):
        alone = torch.autograd.grad(y, leaves, row, retain_graph=True)
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[index], one)


def test_autocast_leaves_the_input_its_type(way: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), BeaMish(learnable=True, channels=4))
    x = torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("module", [BeaMish(0.8, 1.5), BeaMish(0.8, 1.3), BeaMish(learnable=True), BeaMish(learnable=True, channels=6)])
def test_any_memory_layout(module: BeaMish, way: str) -> None:
    """Channels-last comes out as channels-last, gradient too; gaps, and a gradient laid out otherwise, change no number."""
    x = torch.randn(3, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    wide = torch.zeros(3, 6, 5, 8)
    wide[..., ::2] = x
    results = []
    for given in (x.clone(), x.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        leaf = given.detach().requires_grad_()
        y = module(leaf)
        module.zero_grad()
        (y * weight).sum().backward()
        assert leaf.grad is not None
        if given.is_contiguous(memory_format=torch.channels_last):
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert leaf.grad.is_contiguous(memory_format=torch.channels_last)
        results.append([y.detach(), leaf.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)


def test_empty_inputs_and_single_numbers(way: str) -> None:
    assert beamish(torch.zeros(0, 3), 1.0, 1.5).shape == (0, 3)
    assert BeaMish(learnable=True, channels=3)(torch.zeros(0, 3, 2, 2)).shape == (0, 3, 2, 2)
    x = torch.tensor(-1.0, requires_grad=True)
    beamish(x, 1.0, 1.0).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    reference = torch.tensor(-1.0, requires_grad=True)
    F.mish(reference).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, reference.grad)


@pytest.mark.parametrize("shape", [(2 * max(PART, BLOCK) + 77,), (3, 8, 120, 121)])
@pytest.mark.parametrize("learnable", [False, True])
def test_the_number_of_threads_changes_no_number(shape: tuple[int, ...], learnable: bool, way: str) -> None:
    module = BeaMish(0.8, 1.3, learnable=learnable, channels=8 if learnable and len(shape) == 4 else None)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaf = x.clone().requires_grad_()
        module.zero_grad()
        y = module(leaf)
        y.backward(x)
        found.append((y.detach(), leaf.grad, [p.grad.clone() for p in module.parameters() if p.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(*(found[i][1] for i in (0, 1)))  # type: ignore[arg-type]
    for one, two in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-3)  # sums in another order


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    x = torch.randn(4 * PART, generator=torch.Generator().manual_seed(0))
    if library()[0] is None:
        pytest.skip(library()[1])
    expected = beamish(x, 0.8, 1.3).numpy()
    child = os.fork()
    if child == 0:  # it must end, whatever happens; numpy compares, because torch's own threads do not survive a fork
        os._exit(0 if np.array_equal(beamish(x, 0.8, 1.3).numpy(), expected) else 1)
    for _ in range(100):
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child process waits for threads that it does not have")
    assert os.waitstatus_to_exitcode(code) == 0


@pytest.mark.parametrize("start", [(3e-9, 4e8), (4e8, 3e-9), (1.0, 1.5)])
def test_learnable_factors_start_anywhere_and_stay_positive(start: tuple[float, float]) -> None:
    module = BeaMish(*start, learnable=True, channels=3)
    assert isinstance(module.alpha, Tensor)
    assert isinstance(module.beta, Tensor)
    torch.testing.assert_close(module.alpha, torch.full((3,), start[0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(module.beta, torch.full((3,), start[1]), rtol=1e-5, atol=0)
    with torch.no_grad():
        for step in (-1e6, 1e6):
            module.log_alpha.fill_(step)
            module.log_beta.fill_(step)
            assert bool((module.alpha > 0).all() and torch.isfinite(module.alpha).all())
            assert bool((module.beta > 0).all() and torch.isfinite(module.beta).all())
            assert bool(torch.isfinite(module(torch.randn(2, 3, 2, 2))).all())
    with pytest.raises(SettingsError, match="learnable alpha must lie within"):
        BeaMish(1e-10, 1.0, learnable=True)


@pytest.mark.parametrize(("compiler", "reason"), [("false", "gave nothing that loads"), ("/bin/true", "gave nothing that loads")])
def test_a_compiler_that_does_not_work_is_no_trouble(compiler: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("GLEANET_CACHE", str(tmp_path))
    library.cache_clear()
    try:
        assert library()[0] is None
        assert reason in library()[1]
        x = torch.linspace(-3, 3, 50)
        torch.testing.assert_close(beamish(x, 1.0, 1.0), F.mish(x), rtol=1e-5, atol=1e-7)
        assert not list(tmp_path.rglob("*.so"))
    finally:
        library.cache_clear()


def test_the_gpu_kernels_in_tritons_interpreter() -> None:
    """Values and slopes on the CPU, operation by operation; no GPU is needed, but Triton is."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    code = """
import torch
from gleanet.nn.beamish_blocks import plain_slopes, plain_value
from gleanet.nn.beamish_triton import triton_slope, triton_value
x = torch.cat([torch.linspace(-80, 50, 2001), torch.tensor([1e4, -1e4, 0.0])])
g = torch.linspace(-1, 1, len(x))
for alpha, beta in ((1.0, 1.5), (0.7, 1.3), (4.0, 0.2)):
    y, slope = plain_value(x.double(), alpha, beta), plain_slopes(g.double(), x.double(), alpha, beta, (True, False, False))[0]
    torch.testing.assert_close(triton_value(x, alpha, beta).double(), y, rtol=3e-5, atol=1e-30)
    torch.testing.assert_close(triton_slope(g, x, alpha, beta).double(), slope, rtol=1e-5, atol=1e-6)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
