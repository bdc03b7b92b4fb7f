"""Activation functions: one table, and Bea-Mish with its area-normalised form.

Bea-Mish: P. B. Mathayo, D.-K. Kang, "Beta and Alpha Regularizers of Mish Activation Functions for Machine Learning Applications in
Deep Neural Networks", IJIBC 14(1), 2022. Our reading: f(x) = x * tanh(beta * softplus(alpha * x)).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from gleanet.core.errors import ModelError, SettingsError


class _BeaMishFunction(torch.autograd.Function):
    """Saves only the input and the two factors; everything else is computed again in the backward pass."""

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return x * torch.tanh(beta * F.softplus(alpha * x))

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, alpha, beta = ctx.saved_tensors
        bend = alpha * x
        gate = F.softplus(bend)
        # 1 - tanh^2 written as 4e/(1+e)^2: subtracting from 1 would lose every digit where the gate is nearly open
        e = torch.exp(-2 * beta * gate)
        slope = x * (4 * e / (1 + e).square())  # x * sech^2(beta * gate)
        through_gate = slope * beta * torch.sigmoid(bend)
        grad_x = grad * (torch.tanh(beta * gate) + alpha * through_gate)
        grad_alpha = (grad * x * through_gate).sum_to_size(alpha.shape) if ctx.needs_input_grad[1] else None
        grad_beta = (grad * slope * gate).sum_to_size(beta.shape) if ctx.needs_input_grad[2] else None
        return grad_x, grad_alpha, grad_beta


def beamish(x: Tensor, alpha: float | Tensor, beta: float | Tensor) -> Tensor:
    """x * tanh(beta * softplus(alpha * x)), elementwise; one node in a ``torch.fx`` trace.

    Args:
        x: any shape, floating point.
        alpha: where softplus bends, > 0: a number, a 0-dimensional tensor, or [C] for one value per channel (dimension 1 of ``x``).
        beta: how fast the gate opens, > 0; same.

    Returns:
        Same shape and dtype as ``x``.
    """
    result: Tensor = _BeaMishFunction.apply(x, _factor(alpha, x), _factor(beta, x))  # type: ignore[no-untyped-call]
    return result


def _factor(value: float | Tensor, x: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return x.new_full((), value)
    return value.to(x.dtype) if value.dim() == 0 else value.to(x.dtype).view([1, -1] + [1] * (x.dim() - 2))


torch.fx.wrap("beamish")


def area_factor(beta: float) -> float:
    """J(beta) = integral over u >= 0 of u * tanh(beta * ln(1 + e^-u)): the area below the boundary at alpha = 1 (DESIGN 5.5).

    Composite Simpson rule in float64; J(1) = 0.88363, J(1.5) = 1.29631, J(2) = 1.68215.
    """
    _positive("beta", beta)
    upper = 50.0 + max(0.0, math.log(beta))  # beyond it the integrand is below 1e-19 of its peak
    points = 20001
    u = torch.linspace(0.0, upper, points, dtype=torch.float64)
    values = u * torch.tanh(beta * torch.log1p(torch.exp(-u)))
    weights = torch.full((points,), 2.0, dtype=torch.float64)
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
        SettingsError: a factor is not a positive number.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.5, *, learnable: bool = False, channels: int | None = None) -> None:
        super().__init__()
        _positive("alpha", alpha)
        _positive("beta", beta)
        if channels is not None and not learnable:
            raise SettingsError("BeaMish: channels is for learnable factors, set learnable=True")
        self.alpha_start, self.beta_start, self.learnable, self.channels = float(alpha), float(beta), learnable, channels
        if learnable:
            shape = () if channels is None else (channels,)
            self.log_alpha = nn.Parameter(torch.full(shape, math.log(alpha)))
            self.log_beta = nn.Parameter(torch.full(shape, math.log(beta)))

    @classmethod
    def normalized(cls, beta: float, area: float | None = None, *, learnable: bool = False, channels: int | None = None) -> "BeaMish":
        """The member with this ``beta`` whose area below the boundary is ``area`` (default Mish's, J(1)): alpha = sqrt(J(beta) / area)."""
        wanted = area_factor(1.0) if area is None else area
        _positive("area", wanted)
        return cls(math.sqrt(area_factor(beta) / wanted), beta, learnable=learnable, channels=channels)

    @property
    def alpha(self) -> float | Tensor:
        """A number when fixed; when learnable a tensor, [] or [channels]."""
        return self.log_alpha.clamp(-20, 20).exp() if self.learnable else self.alpha_start

    @property
    def beta(self) -> float | Tensor:
        """A number when fixed; when learnable a tensor, [] or [channels]."""
        return self.log_beta.clamp(-20, 20).exp() if self.learnable else self.beta_start

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; any shape (per channel: [N, C, ...])."""
        return beamish(x, self.alpha, self.beta)

    def extra_repr(self) -> str:
        shown = f"alpha={self.alpha_start:.6g}, beta={self.beta_start:.6g}"
        return shown + (f", learnable=True, channels={self.channels}" if self.learnable else "")


@dataclass(frozen=True)
class Activation:
    """One row of the table. Calling it makes a new module instance."""

    name: str
    formula: str
    kind: type[nn.Module]
    reference: str

    def __call__(self) -> nn.Module:
        return self.kind()


_ROWS = (
    Activation("relu", "max(0, x)", nn.ReLU, "V. Nair, G. Hinton, ICML 2010"),
    Activation("silu", "x * sigmoid(x)", nn.SiLU, "S. Elfwing et al., Neural Networks 107, 2018; P. Ramachandran et al. 2017 (Swish)"),
    Activation("mish", "x * tanh(softplus(x))", nn.Mish, "D. Misra, BMVC 2020"),
    Activation(
        "beamish", "x * tanh(beta * softplus(alpha * x)), here alpha = 1, beta = 1.5", BeaMish, "P. Mathayo, D.-K. Kang, IJIBC 14(1), 2022"
    ),
    Activation("gelu", "x * Phi(x), Phi the normal distribution function", nn.GELU, "D. Hendrycks, K. Gimpel, arXiv 1606.08415"),
    Activation("hardswish", "x * min(max(x + 3, 0), 6) / 6", nn.Hardswish, "A. Howard et al., ICCV 2019 (MobileNetV3)"),
    Activation("relu6", "min(max(0, x), 6)", nn.ReLU6, "A. Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010"),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}


def activation(name: str) -> Callable[[], nn.Module]:
    """The table's row; every call of it makes a new module.

    Raises:
        ModelError: no such name; lists those there are.
    """
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def is_activation(module: nn.Module) -> bool:
    """Whether the module is of a kind in the table."""
    return any(type(module) is row.kind for row in _ROWS)


def spec(module: nn.Module) -> dict[str, Any]:
    """What makes an equal module again, as plain JSON: {"name": "relu"}, or with Bea-Mish's factors.

    Raises:
        ModelError: not a kind of the table.
    """
    for row in _ROWS:
        if type(module) is row.kind:
            break
    else:
        raise ModelError(f"{type(module).__name__} is not in the table of activations: {', '.join(ACTIVATIONS)}")
    made: dict[str, Any] = {"name": row.name}
    if isinstance(module, BeaMish):
        made |= {"alpha": module.alpha_start, "beta": module.beta_start, "learnable": module.learnable, "channels": module.channels}
    if isinstance(module, nn.GELU) and module.approximate != "none":
        made["approximate"] = module.approximate
    return made


def from_spec(made: dict[str, Any]) -> nn.Module:
    """The module that :func:`spec` described.

    Raises:
        ModelError: unknown name or argument.
    """
    arguments = {key: value for key, value in made.items() if key != "name"}
    row = activation(str(made.get("name")))
    try:
        return ACTIVATIONS[str(made["name"])].kind(**arguments) if arguments else row()
    except TypeError as error:
        raise ModelError(f"activation {made['name']!r} does not take {', '.join(arguments)}: {error}") from error


def gain(module: nn.Module) -> float:
    """1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the factor that keeps the second moment through a layer.

    sqrt(2) for ReLU: He et al., "Delving Deep into Rectifiers", 2015, eq. 10.

    Trapezoid rule in float64 over [-10, 10].
    """
    z = torch.linspace(-10.0, 10.0, 20001, dtype=torch.float64, device="cpu")  # also where a network is made on the meta device
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        moment = float(torch.trapezoid(module(z.view(1, 1, -1)).view(-1).square() * density, z))
    return 1 / math.sqrt(moment)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"BeaMish: {name} must be a positive number, got {value}")
