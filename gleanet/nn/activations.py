"""The table of activation functions, and how one is named in a word: ``mish``, ``beamish(alpha=1,beta=2)``, ``beamish-learnable``."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from gleanet.core.errors import GleanetError, ModelError
from gleanet.nn.beamish import BeaMish
from gleanet.nn.swish import Swish


@dataclass(frozen=True)
class Activation:
    """One row of the table. Calling it makes a new module instance.

    Attributes:
        name: what it is called.
        formula, derivative: as text.
        kind: the class of its modules.
        reference: where it comes from.
        make: makes a module; its keyword arguments are the factors that may be named.
        factors: values that are not ``make``'s defaults.
    """

    name: str
    formula: str
    derivative: str
    kind: type[nn.Module]
    reference: str
    make: Callable[..., nn.Module]
    factors: tuple[tuple[str, float], ...] = ()

    def __call__(self) -> nn.Module:
        return self.make(**dict(self.factors))


def _beta_mish(beta: float = 1.5) -> BeaMish:
    return BeaMish(1.0, beta)


def _fixed(alpha: float = 1.0, beta: float = 1.5) -> BeaMish:
    return BeaMish(alpha, beta)


def _normalized(beta: float = 2.0, area: float | None = None) -> BeaMish:
    return BeaMish.normalized(beta, area)


def _learnable(alpha: float = 1.0, beta: float = 1.5) -> BeaMish:
    return BeaMish(alpha, beta, learnable=True)


_MISHES = "t + alpha beta x (1 - t^2) sigmoid(alpha x), t = tanh(beta softplus(alpha x))"
_MATHAYO = "P. Mathayo, D.-K. Kang, IJIBC 14(1), 2022"

_ROWS = (
    Activation("relu", "max(0, x)", "1 for x > 0, else 0", nn.ReLU, "V. Nair, G. Hinton, ICML 2010", nn.ReLU),
    Activation(
        "silu",
        "x sigmoid(x)",
        "s (1 + x (1 - s)), s = sigmoid(x)",
        nn.SiLU,
        "S. Elfwing et al., Neural Networks 107, 2018",
        nn.SiLU,
    ),
    Activation(
        "swish",
        "x sigmoid(beta x)",
        "s (1 + beta x (1 - s)), s = sigmoid(beta x)",
        Swish,
        "P. Ramachandran et al., arXiv 1710.05941, 2017",
        Swish,
    ),
    Activation("mish", "x tanh(softplus(x))", "t + x (1 - t^2) sigmoid(x), t = tanh(softplus(x))", nn.Mish, "D. Misra, BMVC 2020", nn.Mish),
    Activation(
        "beta-mish",
        "x tanh(beta softplus(x))",
        "t + beta x (1 - t^2) sigmoid(x), t = tanh(beta softplus(x))",
        BeaMish,
        "D. Misra, github.com/digantamisra98/Beta-Mish, 2019",
        _beta_mish,
    ),
    Activation("beamish", "x tanh(beta softplus(alpha x))", _MISHES, BeaMish, _MATHAYO, _fixed),
    Activation(
        "beamish-normalized",
        "beamish with alpha = sqrt(J(beta) / area), area = J(1), that of Mish",
        _MISHES,
        BeaMish,
        _MATHAYO,
        _normalized,
    ),
    Activation("beamish-learnable", "beamish, both factors trained", _MISHES, BeaMish, _MATHAYO, _learnable),
    Activation(
        "gelu",
        "x Phi(x), Phi the normal distribution function",
        "Phi(x) + x phi(x)",
        nn.GELU,
        "D. Hendrycks, K. Gimpel, arXiv 1606.08415",
        nn.GELU,
    ),
    Activation(
        "hardswish",
        "x min(max(x + 3, 0), 6) / 6",
        "0 up to -3, (2 x + 3) / 6, 1 from 3",
        nn.Hardswish,
        "A. Howard et al., ICCV 2019 (MobileNetV3)",
        nn.Hardswish,
    ),
    Activation(
        "relu6",
        "min(max(0, x), 6)",
        "1 for 0 < x < 6, else 0",
        nn.ReLU6,
        "A. Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010",
        nn.ReLU6,
    ),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}

_NAMED = {nn.ReLU: "relu", BeaMish: "beamish"}  # of kinds that have several rows, the row for records
_KINDS: dict[type[nn.Module], str] = {**{row.kind: row.name for row in reversed(_ROWS)}, **_NAMED}
_WORD = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*")


def activation(text: str) -> Activation:
    """The table's row of a name, or of a name with factors: ``swish(beta=1.5)``. Every call of it makes a new module.

    Raises:
        ModelError: no such name (lists those there are) or factor, or a factor out of range.
    """
    found = _WORD.fullmatch(text)
    if found is None or found[1] not in ACTIVATIONS:
        raise ModelError(f"unknown activation {text!r}: choose one of {', '.join(ACTIVATIONS)}")
    row = ACTIVATIONS[found[1]]
    if not found[2]:
        return row
    known = tuple(inspect.signature(row.make).parameters) if row.make in _OWN else ()
    factors = dict(_factor(text, part, known) for part in found[2].split(","))
    made = Activation(text.strip(), row.formula, row.derivative, row.kind, row.reference, row.make, tuple(factors.items()))
    try:
        made()
    except GleanetError as error:
        raise ModelError(f"activation {text!r}: {error}") from error
    return made


_OWN = (Swish, _beta_mish, _fixed, _normalized, _learnable)


def _factor(text: str, part: str, known: tuple[str, ...]) -> tuple[str, float]:
    name, _, value = (piece.strip() for piece in part.partition("="))
    if name not in known:
        raise ModelError(
            f"activation {text!r} does not take {name!r}: " + (f"it takes {', '.join(known)}" if known else "it has no factors")
        )
    try:
        return name, float(value)
    except ValueError as error:
        raise ModelError(f"activation {text!r}: {name} is {value!r}, not a number") from error


def split_names(text: str) -> tuple[str, ...]:
    """``"mish,beamish(alpha=1,beta=2)"`` -> its parts, in order: commas inside parentheses do not part names.

    Raises:
        ModelError: one of them is unknown, named twice, or there is none.
    """
    names = tuple(part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip())
    if not names:
        raise ModelError(f"no activation is named: choose some of {', '.join(ACTIVATIONS)}")
    for name in names:
        activation(name)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"activation {twice!r} is named twice")
    return names


def is_activation(module: nn.Module) -> bool:
    """Whether the module is of a kind in the table."""
    return type(module) in _KINDS


def spec(module: nn.Module) -> dict[str, Any]:
    """What makes an equal module again, as plain JSON: {"name": "relu"}, or with the factors.

    Raises:
        ModelError: not a kind of the table.
    """
    if type(module) not in _KINDS:
        raise ModelError(f"{type(module).__name__} is not in the table of activations: {', '.join(ACTIVATIONS)}")
    made: dict[str, Any] = {"name": _KINDS[type(module)]}
    if isinstance(module, BeaMish):
        made |= {"alpha": module.alpha_start, "beta": module.beta_start, "learnable": module.learnable, "channels": module.channels}
    if isinstance(module, Swish):
        made["beta"] = module.beta
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
        return partial(row.kind, **arguments)() if arguments else row()
    except TypeError as error:
        raise ModelError(f"activation {made['name']!r} does not take {', '.join(arguments)}: {error}") from error
