"""The whole state of a training as one safetensors file, so that a killed one goes on where it was. No pickle.

There is no random state in it: order and augmentation depend on (seed, epoch) alone, and the layers that draw (dropout) on (seed, step).
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError, NewerFormat, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.records import FORMAT_VERSION, CurvePoint, dumps, loads
from gleanet.data import ImageSet
from gleanet.train.recipe import Recipe

_KEY = "gleanet.training"
_MODEL, _MOMENTUM = "model/", "momentum/"


@dataclass(frozen=True)
class Standing:
    """How far a training is.

    Attributes:
        identity: of the training, see :func:`identity`.
        step: optimizer steps done.
        peak: the peak learning rate in use.
        points: the learning curve so far.
        losses: losses of the steps after the last point.
    """

    identity: dict[str, str]
    step: int
    peak: float
    points: tuple[CurvePoint, ...] = ()
    losses: tuple[float, ...] = field(default=())
    format_version: int = FORMAT_VERSION


def identity(model: nn.Module, images: ImageSet, recipe: Recipe, seed: int, teacher: nn.Module | None) -> dict[str, str]:
    """What must be equal for a saved state to be continued: recipe, seed, and digests of data, starting weights and teacher."""
    data = hashlib.sha256(np.ascontiguousarray(images.labels).data)
    data.update(np.ascontiguousarray(images.images).data)
    return {
        "recipe": ", ".join(f"{key} {value}" for key, value in asdict(recipe).items()),
        "seed": str(seed),
        "data": f"{len(images)} images {data.hexdigest()[:12]}",
        "starting weights": _digest(model),
        "teacher": "none" if teacher is None else _digest(teacher),
    }


def write(path: Path, model: nn.Module, optimizer: torch.optim.SGD, standing: Standing) -> None:
    """Write the state atomically.

    Raises:
        StoreError: the file cannot be written.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for index, parameter in enumerate(_parameters(optimizer)):
        momentum = optimizer.state[parameter].get("momentum_buffer") if parameter in optimizer.state else None
        if momentum is not None:
            tensors[f"{_MOMENTUM}{index}"] = momentum
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
    """Copy a saved state's tensors into the network and the optimizer, in place."""
    model.load_state_dict({name.removeprefix(_MODEL): tensor for name, tensor in tensors.items() if name.startswith(_MODEL)})
    for index, parameter in enumerate(_parameters(optimizer)):
        saved = tensors.get(f"{_MOMENTUM}{index}")
        if saved is not None:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved)


def _parameters(optimizer: torch.optim.SGD) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
