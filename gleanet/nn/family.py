"""What can be said of any activation function from its values alone: derivative, minimum, area below the boundary, gain. In float64."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gleanet.core.comparison import FunctionShape
from gleanet.nn.activations import activation

_REACH = 400.0  # where the area is cut off: beta = 0.1 is below 1e-15 there


def describe(names: Iterable[str], low: float = -5.0, high: float = 3.0, points: int = 241) -> tuple[FunctionShape, ...]:
    """The named activations (with factors, if wanted) in numbers, with points of function and derivative over [low, high].

    Raises:
        ModelError: an unknown name or factor.
    """
    x = torch.linspace(low, high, points, dtype=torch.float64, device="cpu")
    found = []
    for name in names:
        row = activation(name)
        module = row().double()
        with torch.no_grad():
            y = values(module, x)
        found.append(
            FunctionShape(
                name=row.name,
                formula=row.formula,
                derivative=row.derivative,
                reference=row.reference,
                minimum=minimum(module),
                area=area(module),
                gain=gain(module),
                x=tuple(x.tolist()),
                y=tuple(y.tolist()),
                slope=tuple(derivative(module, x).tolist()),
            )
        )
    return tuple(found)


def derivative(module: nn.Module, x: Tensor) -> Tensor:
    """f'(x) by automatic differentiation, elementwise; ``x`` any shape, floating point; same shape and dtype."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(values(module, point).sum(), point)
    return slope


def values(module: nn.Module, x: Tensor) -> Tensor:
    """f(x) of a 1-dimensional ``x``, for modules that look at dimension 1 as channels too."""
    result: Tensor = module(x.view(1, 1, -1)).view(-1)
    return result


def minimum(module: nn.Module) -> tuple[float, float] | None:
    """Where the function is lowest, and how low that is: (x, f(x)). None where it is nowhere below zero, as ReLU.

    A grid over [-40, 0] finds the valley, bisection of the derivative its bottom.
    """
    x = torch.linspace(-40.0, 0.0, 40_001, dtype=torch.float64, device="cpu")
    with torch.no_grad():
        y = values(module, x)
    lowest = int(y.argmin())
    if float(y[lowest]) >= 0:
        return None
    low, high = float(x[max(0, lowest - 1)]), float(x[min(len(x) - 1, lowest + 1)])
    for _ in range(60):
        middle = (low + high) / 2
        if float(derivative(module, torch.tensor([middle], dtype=torch.float64))) < 0:
            low = middle
        else:
            high = middle
    where = torch.tensor([(low + high) / 2], dtype=torch.float64, device="cpu")
    with torch.no_grad():
        return float(where), float(values(module, where))


def area(module: nn.Module) -> float:
    """Area below the boundary: the integral over x < 0 of -f(x). Composite Simpson rule over [-400, 0]."""
    points = 400_001
    x = torch.linspace(-_REACH, 0.0, points, dtype=torch.float64, device="cpu")
    weights = torch.full((points,), 2.0, dtype=torch.float64, device="cpu")
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    with torch.no_grad():
        found = float((weights * -values(module, x)).sum()) * _REACH / (points - 1) / 3
    return abs(found) if abs(found) < 1e-12 else found


def gain(module: nn.Module) -> float:
    """The g of an initialisation std = g / sqrt(fan_in) that keeps the second moment through a layer: 1 / sqrt(E[f(z)^2]), z ~ N(0, 1).

    Derivation: let y = W f(z) with independent W of mean 0 and variance g^2 / fan_in, and z_j ~ N(0, 1). Then y_i has mean 0 and
    variance fan_in * g^2 / fan_in * E[f(z)^2] = g^2 E[f(z)^2], which is to be 1, so that the layer behind sees N(0, 1) again. For ReLU
    E[f(z)^2] = 1/2 and g = sqrt(2): K. He et al., "Delving Deep into Rectifiers", 2015, eq. 10.

    Trapezoid rule over [-10, 10], which converges faster than any power for smooth functions under a normal density.
    """
    z = torch.linspace(-10.0, 10.0, 20001, dtype=torch.float64, device="cpu")  # also where a network is made on the meta device
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        moment = float(torch.trapezoid(values(module, z).square() * density, z))
    return 1 / math.sqrt(moment)
