"""The arithmetic of Bea-Mish, f(x) = x * tanh(beta * softplus(alpha * x)): plain formulas, and fast ones on the CPU.

Plain formulas run anywhere, can be compiled, exported and differentiated again. The fast ones use torch's in-place operations over blocks
that stay in the cache, and write the function so that it needs few transcendental operations. With a = sigmoid(alpha * x), s = 1 - a and
k = 2 * beta, tanh(beta * softplus(alpha * x)) = (1 - s^k) / (1 + s^k). For whole k (beta = 1, 1.5, 2, ...) that is rational in a, with
1 - s^k = a * (1 + s + ... + s^(k-1)), which loses no digit and cannot overflow: the one sigmoid is all. Other k take expm1.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Factor = float | Tensor
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

BLOCK = 1 << 16  # numbers a thread works on at a time: with the scratch they fit a 1 to 2 MB cache, and are worth the calls
MAX_POWER = 8  # beyond it expm1 is cheaper
_STRAIGHT = 50.0  # softplus(u) = u above it, to the last bit of float64
_ONE, _TWO = torch.ones(()), torch.full((), 2.0)
_LOG2_E = 1.4426950408889634


def computed_in(x: Tensor) -> torch.dtype:
    """16-bit numbers are computed in float32."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def plain_value(x: Tensor, alpha: Factor, beta: Factor) -> Tensor:
    """f(x) in torch's operations; factors are numbers or broadcast with ``x``. Shape and dtype of ``x``."""
    wide = x if x.dtype == computed_in(x) else x.float()
    y = wide * torch.tanh(beta * _softplus(alpha * wide))
    return y if y.dtype == x.dtype else y.to(x.dtype)


def plain_slopes(grad: Tensor, x: Tensor, alpha: Factor, beta: Factor, needs: Sequence[bool]) -> Gradients:
    """Gradients for x, alpha and beta where ``needs`` says so, in torch's operations, which can be differentiated again."""
    wide, g = (x, grad) if x.dtype == computed_in(x) else (x.float(), grad.float())
    u = alpha * wide
    gate = _softplus(u)
    # 1 - tanh^2 written as 4e/(1+e)^2: subtracting from 1 would lose every digit where the gate is nearly open
    e = torch.exp(-2 * beta * gate)
    slope = wide * (4 * e / (1 + e).square())  # x * sech^2(beta * gate)
    through = slope * (beta * torch.sigmoid(u))
    grad_x = (g * (torch.tanh(beta * gate) + alpha * through)).to(x.dtype) if needs[0] else None
    return grad_x, _summed(g * wide * through, alpha, needs[1]), _summed(g * slope * gate, beta, needs[2])


def is_fast(x: Tensor) -> bool:
    """Whether the block formulas take it: real numbers of at most 32 bits in CPU memory, nobody tracing."""
    if torch.compiler.is_compiling():
        return False
    return type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and computed_in(x) == torch.float32


def fast_value(x: Tensor, alpha: Factor, beta: Factor) -> Tensor:
    """f(x) block by block; ``x`` as :func:`is_fast` wants it. Dtype and memory layout of ``x``. Results below 2^-100 may come out as 0."""
    x = dense(x)
    y = torch.empty_like(x)
    power = _power(beta)
    for (b, out), scratch in _blocks((x, y), alpha, beta, 3):
        torch.mul(b, alpha, out=scratch[0])
        if power:
            _rational_value(b, out, power, scratch)
        else:
            _general_value(b, out, beta, scratch)
    return y


def fast_slopes(grad: Tensor, x: Tensor, alpha: Factor, beta: Factor, needs: Sequence[bool]) -> Gradients:
    """Gradients for x, alpha and beta block by block; everything but ``x`` and the factors is computed again."""
    x = dense(x)
    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    grad_x = torch.empty_like(x)
    sums = tuple(torch.zeros_like(f, dtype=torch.float64) if isinstance(f, Tensor) else None for f in (alpha, beta))
    power = _power(beta)
    for (b, g, out), scratch in _blocks((x, grad, grad_x), alpha, beta, 5):
        torch.mul(b, alpha, out=scratch[0])
        if power:
            _rational_slope(b, g, out, power, alpha, scratch)
        else:
            _general_slopes(b, g, out, alpha, beta, scratch, sums)
    grad_alpha, grad_beta = (
        total.to(f.dtype) if total is not None and isinstance(f, Tensor) else None for total, f in zip(sums, (alpha, beta), strict=True)
    )
    return grad_x, grad_alpha, grad_beta


def _softplus(u: Tensor) -> Tensor:
    # the default threshold where a graph is taken down: its node is then the plain Softplus
    return F.softplus(u) if torch.compiler.is_compiling() else F.softplus(u, threshold=_STRAIGHT)


def _summed(values: Tensor, factor: Factor, needed: bool) -> Tensor | None:
    return values.sum_to_size(factor.shape) if needed and isinstance(factor, Tensor) else None


def _power(beta: Factor) -> int:
    """2 * beta where that is a whole number for which the rational form is exact and short, else 0."""
    whole = not isinstance(beta, Tensor) and float(2 * beta).is_integer() and 2 <= 2 * beta <= MAX_POWER
    return int(2 * beta) if whole else 0


def dense(x: Tensor) -> Tensor:
    """Memory without gaps, so that all of it can be read as one row."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def _blocks(tensors: Sequence[Tensor], alpha: Factor, beta: Factor, scratches: int) -> Iterator[tuple[tuple[Tensor, ...], list[Tensor]]]:
    """Equal parts of tensors of one layout, in float32, with room to compute in. Writes to the last one are carried back."""
    if tensors[0].numel() == 0:
        return
    size = BLOCK * torch.get_num_threads()
    if any(isinstance(f, Tensor) and f.dim() > 0 for f in (alpha, beta)):  # factors vary along dimension 1: whole images
        size = max(1, size // tensors[0][0].numel())
    else:
        tensors = [t.as_strided((t.numel(),), (1,)) for t in tensors]
    scratch: list[Tensor] = []
    narrow = tensors[0].dtype != torch.float32
    for part in zip(*(torch.split(t, size) for t in tensors), strict=True):
        given = tuple(t.float() for t in part) if narrow else part
        if not scratch:
            scratch = [torch.empty_like(given[0]) for _ in range(scratches)]
        yield given, scratch if len(given[0]) == len(scratch[0]) else [room[: len(given[0])] for room in scratch]
        if narrow:
            part[-1].copy_(given[-1])


def _opened(power: int, a: Tensor, s: Tensor, w: Tensor) -> None:
    """From u in ``a``: a = sigmoid(u), s = 1 - a, w = 1 - s^k."""
    torch.sigmoid(a, out=a)
    torch.sub(_ONE, a, out=s)
    torch.add(s, 1, out=w)
    for _ in range(power - 2):
        torch.addcmul(_ONE, w, s, out=w)
    w.mul_(a)


def _rational_value(b: Tensor, out: Tensor, power: int, scratch: list[Tensor]) -> None:
    a, s, w = scratch
    _opened(power, a, s, w)
    torch.sub(_TWO, w, out=s)  # 1 + s^k
    torch.mul(b, w, out=out).div_(s)


def _rational_slope(b: Tensor, g: Tensor, out: Tensor, power: int, alpha: Factor, scratch: list[Tensor]) -> None:
    """w / d + 2 k alpha x a s^k / d^2 with d = 1 + s^k."""
    a, s, w, d = scratch[:4]
    _opened(power, a, s, w)
    torch.sub(_TWO, w, out=d)
    w.mul_(d)
    for _ in range(power):
        a.mul_(s)
    w.addcmul_(b, a.mul_(2 * power * alpha))  # a first: it is 0 where b times a number could overflow
    torch.div(w, d.mul_(d), out=w)
    torch.mul(w, g, out=out)


def _gated(beta: Factor, gate: Tensor, m: Tensor) -> None:
    """From u in ``gate``: gate = softplus(u), m = expm1(-2 beta gate), with which tanh(beta gate) = -m / (2 + m)."""
    torch._C._nn.softplus(gate, 1.0, _STRAIGHT, out=gate)  # type: ignore[call-arg]
    torch.mul(gate, -2 * beta, out=m).expm1_()


def _general_value(b: Tensor, out: Tensor, beta: Factor, scratch: list[Tensor]) -> None:
    gate, m, d = scratch
    _gated(beta, gate, m)
    torch.add(m, 2, out=d)
    torch.mul(b, m.neg_(), out=out).div_(d)


def _general_slopes(
    b: Tensor, g: Tensor, out: Tensor, alpha: Factor, beta: Factor, scratch: list[Tensor], sums: Sequence[Tensor | None]
) -> None:
    """With e = exp(-2 beta gate) and slope = x * 4 e / (1 + e)^2, as in :func:`plain_slopes`."""
    gate, m, d, slope, through = scratch
    torch.sigmoid(gate, out=through)
    _gated(beta, gate, m)
    torch.mul(gate, -2 * _LOG2_E * beta, out=slope).exp2_().mul_(4)
    torch.add(m, 2, out=d)
    slope.div_(d).div_(d).mul_(b).mul_(g)
    through.mul_(slope).mul_(beta)
    grad_alpha, grad_beta = sums
    if grad_beta is not None:
        grad_beta += gate.mul_(slope).sum_to_size(grad_beta.shape)
    torch.mul(m.neg_().div_(d), g, out=out)
    if grad_alpha is not None:
        grad_alpha += torch.mul(through, b, out=slope).sum_to_size(grad_alpha.shape)
    out.add_(through.mul_(alpha))
