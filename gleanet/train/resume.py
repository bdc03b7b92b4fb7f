"""The whole state of a training as one safetensors file, so that a killed one goes on where it was. No pickle.

There is no random state in it: order and augmentation depend on (seed, epoch) alone, and the layers that draw (dropout) on (seed, step).
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError, NewerFormat, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.records import FORMAT_VERSION, CurvePoint, dumps, loads
from gleanet.data import ImageSet
from gleanet.nn.weights import put_state, weights_digest
from gleanet.train.recipe import Recipe

_KEY = "gleanet.training"
_MODEL, _MOMENTUM, _ALONG = "model/", "momentum/", "along/"
_TENSOR = "\0tensor"  # the key by which a tensor's place in nested values is told from a dict of the values' own


class Stateful(Protocol):
    """Something with a state of its own that changes from step to step, such as :class:`gleanet.prune.FCR`."""

    def state_dict(self) -> dict[str, Any]:
        """The state as nested dicts and lists of plain values and tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""


@dataclass(frozen=True)
class Standing:
    """How far a training is.

    Attributes:
        identity: of the training, see :func:`identity`.
        step: optimizer steps done.
        peak: the peak learning rate in use.
        points: the learning curve so far.
        losses: losses of the steps after the last point.
        along: the state of what is trained along with the network, see :class:`Stateful`; its tensors are kept with those of the network.
    """

    identity: dict[str, str]
    step: int
    peak: float
    points: tuple[CurvePoint, ...] = ()
    losses: tuple[float, ...] = field(default=())
    along: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def identity(model: nn.Module, images: ImageSet, recipe: Recipe, seed: int, teacher: nn.Module | None) -> dict[str, str]:
    """What must be equal for a saved state to be continued: recipe, seed, and digests of data, starting weights and teacher."""
    return {
        "recipe": ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if (key, value) != ("precision", "float32")),
        "seed": str(seed),
        "data": f"{len(images)} images {images.digest()[:12]}",
        "starting weights": weights_digest(model),
        "teacher": "none" if teacher is None else weights_digest(teacher),
    }


def write(path: Path, model: nn.Module, optimizer: torch.optim.SGD, standing: Standing, along: Stateful | None = None) -> None:
    """Write the state atomically, that of ``along`` with it.

    Raises:
        StoreError: the file cannot be written.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for index, parameter in enumerate(_parameters(optimizer)):
        momentum = optimizer.state[parameter].get("momentum_buffer") if parameter in optimizer.state else None
        if momentum is not None:
            tensors[f"{_MOMENTUM}{index}"] = momentum
    if along is not None:
        standing = replace(standing, along=_without_tensors(along.state_dict(), tensors))
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    write_bytes(path, safetensors.torch.save(plain, metadata={_KEY: dumps(standing).decode()}))


def read(path: Path, expected: dict[str, str]) -> tuple[Standing, dict[str, Tensor]] | None:
    """The standing and tensors of a saved state, or None where there is no file yet.

    Raises:
        CheckpointError: the file is damaged, of a newer gleanet, or belongs to another training; says what differs.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            standing = loads((file.metadata() or {})[_KEY].encode(), Standing, str(path))
    except NewerFormat as error:
        raise CheckpointError(str(error)) from error
    except (SafetensorError, OSError, KeyError, StoreError) as error:
        raise CheckpointError(f"{path} is not the state of a training or is damaged: delete it to start again") from error
    for what, value in expected.items():
        if standing.identity.get(what) != value:
            there = standing.identity.get(what)
            raise CheckpointError(
                f"{path} belongs to another training ({what}: {there} there, {value} now): delete it or name another file"
            )
    return standing, tensors


def put(model: nn.Module, optimizer: torch.optim.SGD, tensors: dict[str, Tensor]) -> None:
    """Copy a saved state's tensors into the network and the optimizer, in place.

    Raises:
        CheckpointError: the tensors are not those of this network.
    """
    put_state(model, {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items() if name.startswith(_MODEL)}, "the saved state")
    for index, parameter in enumerate(_parameters(optimizer)):
        saved = tensors.get(f"{_MOMENTUM}{index}")
        if saved is not None and saved.shape != parameter.shape:
            raise CheckpointError(f"the saved state has a momentum of shape {list(saved.shape)} for weights of {list(parameter.shape)}")
        if saved is not None:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved)


def state_along(standing: Standing, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state of what was trained along with the network, with its tensors.

    Raises:
        CheckpointError: one of them is missing.
    """
    try:
        found: dict[str, Any] = _with_tensors(standing.along, tensors)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the saved state is damaged: it lacks {error}") from error
    return found


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Nested values whose tensors have gone into ``tensors`` and left their name, and their layout, which decides the last bits of sums."""
    if isinstance(value, Tensor):
        name = f"{_ALONG}{len(tensors)}"
        tensors[name] = value
        last = value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        return {_TENSOR: name, "channels_last": last}
    if isinstance(value, dict):
        return {key: _without_tensors(inner, tensors) for key, inner in value.items()}
    return [_without_tensors(inner, tensors) for inner in value] if isinstance(value, list | tuple) else value


def _with_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and _TENSOR in value:
        tensor = tensors[value[_TENSOR]]
        return tensor.to(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if isinstance(value, dict):
        return {key: _with_tensors(inner, tensors) for key, inner in value.items()}
    return [_with_tensors(inner, tensors) for inner in value] if isinstance(value, list) else value


def _parameters(optimizer: torch.optim.SGD) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
