"""Reading other people's checkpoints: state dicts in ``.th``, ``.pt``, ``.pth`` and ``.safetensors`` files. Nothing in them is executed."""

import hashlib
import json
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError

State = dict[str, Tensor]

MAX_DIMS = 8
MAX_REPEATED = 2**26  # bytes of a tensor that repeats the values it has (an expanded buffer)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before every name


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Copy a checkpoint's tensors into ``model``, in place; nothing is changed unless every entry fits.

    Reads state dicts, also inside a "state_dict" or "model" entry, with or without the "module." prefix, and safetensors files.

    Returns:
        ``model``.

    Raises:
        CheckpointError: file missing, damaged, holding more than tensors, holding a value that is not finite, or made for another network.
    """
    path = Path(path)
    put_state(model, read_state(path), str(path))
    return model


def read_state(path: Path) -> State:
    """The tensors of a checkpoint by name, on the CPU.

    Raises:
        CheckpointError: see :func:`load_weights`.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give the checkpoint file in it")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    state = read_safetensors(path)[0] if is_safetensors(start) else _read_torch(path)
    for name, tensor in state.items():
        if not finite(tensor):
            raise CheckpointError(
                f"{path}: {name} holds values that are not finite (NaN or infinity); the training that wrote it had diverged"
            )
    return state


def finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. torch cannot ask that of floats of 8 bits, so those are widened first."""
    wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    return bool(torch.isfinite(wide).all())


def is_safetensors(start: bytes) -> bool:
    """Whether a file's first 9 bytes are those of safetensors: a header length and an opening brace."""
    return len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 100_000_000


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """All tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: it cannot be read or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, dict(file.metadata() or {})
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {_line(error)}; copy it again") from error


def put_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy ``state`` into ``model`` in place, after checking that every name and shape fits; ``where`` names the source in the error.

    ``num_batches_tracked`` may be absent (files older than torch 0.4 have none).

    Raises:
        CheckpointError: names the first entries that differ, with both shapes.
    """
    own = model.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked") and name not in state}
    problems = [
        f"{name} is {_shape(state.get(name))} there and {_shape(own.get(name))} in the network"
        for name in [*own, *(name for name in state if name not in own)]
        if name not in optional and _shape(state.get(name)) != _shape(own.get(name))
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{where} does not fit this network: {'; '.join(problems[:3])}{more}{_advice(own, state)}", slug="checkpoint-mismatch"
        )
    model.load_state_dict(dict(state), strict=not optional)


def _advice(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """When only the head differs, say so in terms of classes."""
    differing = [name for name in {**own, **state} if _shape(state.get(name)) != _shape(own.get(name))]
    heads = [name for name in differing if name in own and name in state and own[name].shape[1:] == state[name].shape[1:]]
    if differing and len(heads) == len(differing) and len({name.rpartition(".")[0] for name in heads}) == 1:
        there, here = state[heads[0]].shape[0], own[heads[0]].shape[0]
        return f": it was trained for {there} classes, the network has {here} (build it with num_classes={there})"
    return ": give the network it was trained as"


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{list(tensor.shape)}"


def _read_torch(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols and storages: nothing the user could act on
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything: KeyError, EOFError, RuntimeError, struct.error ...
        raise _explained(path, error) from error
    return _unwrap(path, loaded)


def _explained(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and (
        re.search(r"GLOBAL|instantiate|not allowed", text) or ("Unsupported operand" in text and _is_pickle(path))
    ):
        found = re.search(r"GLOBAL (?:GLOBAL )?([\w.]+\.[\w.]+)", text)
        what = f" ({found.group(1)})" if found else ""
        line = f"{path} holds more than tensors{what} and was not executed: save it again as torch.save(model.state_dict(), ...)"
        return CheckpointError(line, slug="checkpoint-code")
    if isinstance(error, OSError):
        return CheckpointError(f"cannot read checkpoint {path}: {error.strerror or error}")
    why = f"{type(error).__name__} {_line(error)}".strip()
    return CheckpointError(f"{path} is not a checkpoint, or it is truncated ({why}): copy or download it again")


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == pickle.PROTO


def _unwrap(path: Path, loaded: Any) -> State:
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path} holds no state dict but {type(loaded).__name__}: save model.state_dict()")
    state: State = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} holds no state dict: entry {name!r} is {type(value).__name__}, expected a tensor; save model.state_dict()"
            )
        state[name] = _plain(path, name, value)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _plain(path: Path, name: str, tensor: Tensor) -> Tensor:
    """The tensor itself, if it is one whose values lie in the file: a view of one value may claim to be larger than any memory.

    Raises:
        CheckpointError: it is not.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointError(f"{path}: {name} is no plain tensor: save model.state_dict() of a float network")
    claimed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if tensor.dim() > MAX_DIMS or claimed > max(stored, MAX_REPEATED):
        raise CheckpointError(f"{path}: {name} claims {claimed:,} bytes in {tensor.dim()} dimensions, the file holds {stored:,} of it")
    return tensor


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].partition(". ")[0]


def weights_digest(model: nn.Module) -> str:
    """Twelve hexadecimal digits of the SHA-256 of all parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
