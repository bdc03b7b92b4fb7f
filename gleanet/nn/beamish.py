"""Bea-Mish: the function with its gradients, the module, and the area that its factors normalise.

P. B. Mathayo, D.-K. Kang, "Beta and Alpha Regularizers of Mish Activation Functions for Machine Learning Applications in Deep Neural
Networks", IJIBC 14(1), 2022. Our reading: f(x) = x * tanh(beta * softplus(alpha * x)). With alpha = 1 it is beta-Mish
(D. Misra, "Beta-Mish: an uni-parametric adaptive activation function derived from Mish", 2019: x * tanh(ln((1 + e^x)^beta))).
"""

import importlib.util
import inspect
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gleanet.core.errors import SettingsError
from gleanet.nn.beamish_blocks import Factor, Gradients, computed_in, dense, fast_slopes, fast_value, is_fast, plain_slopes, plain_value
from gleanet.nn.beamish_native import library, native_slopes, native_value


class _BeaMish(torch.autograd.Function):
    """Saves the input alone, and the factors where they are tensors; everything else is computed again in the backward pass."""

    @staticmethod
    def forward(x: Tensor, alpha: Factor, beta: Factor) -> Tensor:
        if _is_for_gpu(x, alpha):
            found: Tensor = _gpu().triton_value(dense(x), alpha, beta)
            return found
        if not is_fast(x):
            return plain_value(x, alpha, beta)
        loaded = library()[0]
        return fast_value(x, alpha, beta) if loaded is None else native_value(loaded, x, alpha, beta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Factor, Factor], output: Tensor) -> None:
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.fixed = None if isinstance(inputs[1], Tensor) else inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, *factors = ctx.saved_tensors
        alpha, beta = ctx.fixed or factors
        if torch.is_grad_enabled() or not _is_real(grad):  # enabled: the gradient will be differentiated
            return plain_slopes(grad, x, alpha, beta, ctx.needs_input_grad)
        if _is_for_gpu(x, alpha):
            x = dense(x)
            return _gpu().triton_slope(torch.empty_like(x).copy_(grad) if grad.stride() != x.stride() else grad, x, alpha, beta), None, None
        if not is_fast(x):
            return plain_slopes(grad, x, alpha, beta, ctx.needs_input_grad)
        loaded = library()[0]
        if loaded is None:
            return fast_slopes(grad, x, alpha, beta, ctx.needs_input_grad)
        return native_slopes(loaded, grad, x, alpha, beta)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, alpha: Factor, beta: Factor) -> tuple[Tensor, int]:
        if isinstance(alpha, Tensor):
            mapped: Tensor = torch.vmap(plain_value, in_dims=in_dims)(x, alpha, beta)
        else:
            mapped = _BeaMish.apply(x.movedim(in_dims[0], 0), alpha, beta)  # type: ignore[no-untyped-call]
        return mapped, 0


@cache
def _gpu() -> Any:
    """The GPU kernels, or None where there is no Triton."""
    return importlib.import_module("gleanet.nn.beamish_triton") if importlib.util.find_spec("triton") else None


def _is_for_gpu(x: Tensor, alpha: Factor) -> bool:
    """Whether the one-pass GPU kernels take it: fixed factors, at most 32 bits, nobody tracing."""
    if torch.compiler.is_compiling() or isinstance(alpha, Tensor) or type(x) not in (Tensor, nn.Parameter):
        return False
    return x.device.type == "cuda" and computed_in(x) == torch.float32 and _gpu() is not None


def _is_real(tensor: Tensor) -> bool:
    """Whether it has memory of its own: one that stands for a batch, where gradients are taken for many at once, has none."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


# torch asks for the signature at every call, and making it takes longer than a small input does
_BeaMish.forward.__signature__ = inspect.signature(_BeaMish.forward)  # type: ignore[attr-defined]


def beamish(x: Tensor, alpha: Factor, beta: Factor) -> Tensor:
    """x * tanh(beta * softplus(alpha * x)), elementwise; one node in a ``torch.fx`` trace.

    Saves one tensor for the backward pass, ``x``, when the factors are numbers. On the CPU in float32, value and gradients are within 4
    units of what the last place of x, alpha or beta changes; 16-bit inputs are computed in float32.

    Args:
        x: any shape, floating point.
        alpha: where softplus bends, > 0: a number, a 0-dimensional tensor, or [C] for one value per channel (dimension 1 of ``x``).
        beta: how fast the gate opens, > 0; same.

    Returns:
        Shape, dtype and memory layout of ``x``.
    """
    if isinstance(alpha, Tensor) or isinstance(beta, Tensor):
        alpha, beta = _factor(alpha, x), _factor(beta, x)
    result: Tensor = _BeaMish.apply(x, alpha, beta)  # type: ignore[no-untyped-call]
    return result


def _factor(value: Factor, x: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return torch.full((), value, dtype=computed_in(x), device=x.device)
    value = value.to(computed_in(x))
    return value if value.dim() == 0 else value.view([1, -1] + [1] * (x.dim() - 2))


torch.fx.wrap("beamish")


def area_factor(beta: float) -> float:
    """J(beta) = integral over u >= 0 of u * tanh(beta * ln(1 + e^-u)): the area below the boundary at alpha = 1 (DESIGN 5.5).

    Composite Simpson rule in float64; J(1) = 0.88363, J(1.5) = 1.29631, J(2) = 1.68215.
    """
    positive("beta", beta)
    upper = 50.0 + max(0.0, math.log(beta))  # beyond it the integrand is below 1e-19 of its peak
    points = 20001
    u = torch.linspace(0.0, upper, points, dtype=torch.float64, device="cpu")
    values = u * torch.tanh(beta * torch.log1p(torch.exp(-u)))
    weights = torch.full((points,), 2.0, dtype=torch.float64, device="cpu")
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    return float((weights * values).sum() * (upper / (points - 1)) / 3)


class BeaMish(nn.Module):
    """f(x) = x * tanh(beta * softplus(alpha * x)). alpha = beta = 1 is Mish; large alpha * beta tends to ReLU.

    Args:
        alpha: where softplus bends, > 0.
        beta: how fast the gate opens, > 0.
        learnable: train both factors; they are kept as logarithms, so they stay positive (within e^-20 and e^20).
        channels: with ``learnable``, one pair for each of this many channels (dimension 1 of the input) instead of one pair.

    Raises:
        SettingsError: a factor is not a positive number, or a learnable one is not within e^-20 and e^20.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.5, *, learnable: bool = False, channels: int | None = None) -> None:
        super().__init__()
        positive("alpha", alpha)
        positive("beta", beta)
        if channels is not None and not learnable:
            raise SettingsError("BeaMish: channels is for learnable factors, set learnable=True")
        for name, value in (("alpha", alpha), ("beta", beta)):
            if learnable and abs(math.log(value)) > REACH:
                raise SettingsError(f"BeaMish: a learnable {name} must lie within e^-{REACH:g} and e^{REACH:g}, got {value}")
        self.alpha_start, self.beta_start, self.learnable, self.channels = float(alpha), float(beta), learnable, channels
        if learnable:
            shape = () if channels is None else (channels,)
            self.log_alpha = nn.Parameter(torch.full(shape, math.log(alpha)))
            self.log_beta = nn.Parameter(torch.full(shape, math.log(beta)))

    @classmethod
    def normalized(cls, beta: float, area: float | None = None, *, learnable: bool = False, channels: int | None = None) -> "BeaMish":
        """The member with this ``beta`` whose area below the boundary is ``area`` (default Mish's, J(1)): alpha = sqrt(J(beta) / area)."""
        wanted = area_factor(1.0) if area is None else area
        positive("area", wanted)
        return cls(math.sqrt(area_factor(beta) / wanted), beta, learnable=learnable, channels=channels)

    @property
    def alpha(self) -> Factor:
        """A number when fixed; when learnable a tensor, [] or [channels]."""
        return self.log_alpha.clamp(-REACH, REACH).exp() if self.learnable else self.alpha_start

    @property
    def beta(self) -> Factor:
        """A number when fixed; when learnable a tensor, [] or [channels]."""
        return self.log_beta.clamp(-REACH, REACH).exp() if self.learnable else self.beta_start

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; any shape (per channel: [N, C, ...])."""
        return beamish(x, self.alpha, self.beta)

    def extra_repr(self) -> str:
        shown = f"alpha={self.alpha_start:.6g}, beta={self.beta_start:.6g}"
        return shown + (f", learnable=True, channels={self.channels}" if self.learnable else "")


REACH = 20.0  # of a learnable factor's logarithm


def positive(name: str, value: float) -> None:
    """Raise SettingsError unless ``value`` is a positive number."""
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"BeaMish: {name} must be a positive number, got {value}")
