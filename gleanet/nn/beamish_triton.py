"""Bea-Mish on a GPU in one kernel each way, for fixed factors: reads x, writes f(x); reads x and the gradient, writes their product.

Imported only where CUDA and Triton are there. Computed in float32 whatever the type in memory.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _parts(x, alpha, beta):  # type: ignore[no-untyped-def]
    """sigmoid(alpha x), S = exp(-2 beta softplus) and 1 - S; 1 - S by a series where S is near 1."""
    u = alpha * x
    q = tl.exp(-tl.abs(u))
    # log(1 + q) as q log(w) / (w - 1) with w = 1 + q rounded: the rounding of w cancels (W. Kahan)
    w = 1.0 + q
    log1p = tl.where(w == 1.0, q, tl.log(w) * (q / tl.where(w == 1.0, 1.0, w - 1.0)))
    softplus = tl.maximum(u, 0.0) + log1p
    sigmoid = tl.where(u > 0, 1.0, q) / w
    z = 2.0 * beta * softplus
    s = tl.exp(-z)
    series = z * (1.0 - z * (0.5 - z * (1.0 / 6 - z * (1.0 / 24 - z * (1.0 / 120 - z * (1.0 / 720))))))
    return sigmoid, s, tl.where(z < 0.5, series, 1.0 - s)


@triton.jit  # type: ignore[untyped-decorator]
def _value_kernel(x_at, y_at, count, alpha, beta, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_at + at, mask=inside).to(tl.float32)
    _sigmoid, s, opened = _parts(x, alpha, beta)
    tl.store(y_at + at, x * opened / (1.0 + s), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _slope_kernel(x_at, g_at, out_at, count, alpha, beta, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_at + at, mask=inside).to(tl.float32)
    g = tl.load(g_at + at, mask=inside).to(tl.float32)
    sigmoid, s, opened = _parts(x, alpha, beta)
    inverse = 1.0 / (1.0 + s)
    through = alpha * beta * sigmoid * x * (4.0 * s * inverse * inverse)
    tl.store(out_at + at, g * (opened * inverse + through), mask=inside)


def triton_value(x: Tensor, alpha: float, beta: float) -> Tensor:
    """f(x) for a tensor without gaps in memory, which the result shares the layout of."""
    y = torch.empty_like(x)
    _value_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), alpha, beta, BLOCK=BLOCK)
    return y


def triton_slope(grad: Tensor, x: Tensor, alpha: float, beta: float) -> Tensor:
    """grad * f'(x); ``grad`` and ``x`` without gaps and of one layout."""
    out = torch.empty_like(x)
    _slope_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, grad, out, x.numel(), alpha, beta, BLOCK=BLOCK)
    return out
