"""Our own checkpoints: one safetensors file whose metadata key ``gleanet`` holds the architecture record and a history as JSON. No pickle.

A network is rebuilt the same way whoever wrote it: its factory makes the plain one, the recorded activations are put in, and layers are
narrowed to the shapes of the tensors (``narrow``).

A file whose network is not a built-in one names a Python function. A file alone never makes us import or run it: ``load`` refuses unless
the caller names the same function, as ``load(path, factory="package.module:function")`` or
``build("package.module:function", weights=path)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gleanet.core.errors import CheckpointError, ModelError, StoreError
from gleanet.core.files import write_bytes
from gleanet.core.records import FORMAT_VERSION, dumps, loads
from gleanet.nn.activations import from_spec, is_activation, spec
from gleanet.nn.architecture import Architecture, architecture_of, set_architecture
from gleanet.nn.dry import shapes_only
from gleanet.nn.factory import is_builtin, make
from gleanet.nn.modes import mode
from gleanet.nn.narrow import PRINTED, narrow, width
from gleanet.nn.normact import split_norm_acts
from gleanet.nn.surgery import set_module
from gleanet.nn.weights import State, finite, is_safetensors, put_state, read_safetensors

KEY = "gleanet"


@dataclass(frozen=True)
class Header:
    """The JSON of the metadata key ``gleanet``. ``history`` is whatever the saver wants remembered (recipe, plan, source)."""

    architecture: Architecture
    history: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def save(model: nn.Module, path: str | Path, *, history: Mapping[str, object] | None = None) -> None:
    """Write weights and architecture record, atomically; equal networks give equal bytes.

    Args:
        model: a network with an architecture record; on any device.
        path: the file, by custom ``NAME.gleanet``.
        history: plain JSON values.

    Raises:
        ModelError: no record, or the record does not describe this network, so ``load`` could not rebuild it.
        StoreError: the file cannot be written.
    """
    given = architecture_of(model)
    plain = split_norm_acts(make(given.factory, given.kwargs))
    record = replace(given, activations=_changed_activations(model, plain))
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(model.state_dict().items())}
    try:
        rebuilt = _skeleton(record, state, plain)
        _check_rebuilt(model, rebuilt, state)
        _check_widths(rebuilt, record, "the network")
    except CheckpointError as error:
        raise ModelError(f"cannot save: the architecture record ({record.factory}) does not describe this network: {error}") from error
    # one metadata key only: safetensors writes several in no fixed order
    header = dumps(Header(_sorted(record), dict(history or {}))).decode()
    write_bytes(Path(path), safetensors.torch.save(state, metadata={KEY: header}))


def load(path: str | Path, *, factory: str | None = None) -> nn.Module:
    """Rebuild a network from its checkpoint, on the CPU, in evaluation mode, with its architecture record.

    Args:
        path: a file written by :func:`save`.
        factory: needed where the network is the user's own: the "package.module:function" the file names. That code is imported and run.

    Raises:
        CheckpointError: missing, damaged, not ours, not finite, of a newer format, or naming code that the caller did not name.
    """
    path = Path(path)
    state, header = read(path)
    record = header.architecture
    if factory is not None and factory != record.factory:
        raise CheckpointError(f"{path} holds a {record.factory}, not a {factory}")
    if factory is None and not is_builtin(record.factory):
        raise CheckpointError(
            f"{path} was made by {record.factory!r}, which is not a built-in network and was not run: "
            f'if you trust that code, name it: build("{record.factory}", weights=...)',
            slug="checkpoint-own-code",
        )
    try:
        net = _skeleton(record, state, split_norm_acts(make(record.factory, record.kwargs)))
    except TypeError as error:
        raise CheckpointError(f"{path}: {record.factory} does not take the recorded arguments: {error}") from error
    put_state(net, state, str(path))
    _check_widths(net, record, str(path))
    set_architecture(net, record)
    return net.eval()


def read_header(path: str | Path) -> Header:
    """Only the architecture record and history of a checkpoint of ours.

    Raises:
        CheckpointError: see :func:`load`.
    """
    return read(Path(path))[1]


def is_checkpoint(path: str | Path) -> bool:
    """Whether the file is a safetensors file with our metadata. False for anything unreadable."""
    try:
        with open(path, "rb") as file:
            if not is_safetensors(file.read(9)):
                return False
        with safe_open(path, framework="pt") as opened:
            return KEY in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False


def read(path: Path) -> tuple[State, Header]:
    """Tensors and header of a checkpoint of ours; checks that the values are finite.

    Raises:
        CheckpointError: see :func:`load`.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if not is_safetensors(start):
        raise CheckpointError(
            f"{path} is not a checkpoint of ours: give a .gleanet file, or a built-in network with this file as its weights"
        )
    state, metadata = read_safetensors(path)
    if KEY not in metadata:
        raise CheckpointError(f"{path} has weights but no architecture record: give a built-in network with this file as its weights")
    try:
        header = loads(metadata[KEY].encode(), Header, str(path))
    except StoreError as error:
        raise CheckpointError(str(error)) from error
    for name, tensor in state.items():
        if not finite(tensor):
            raise CheckpointError(f"{path}: {name} holds values that are not finite (NaN or infinity)")
    return state, header


def _changed_activations(model: nn.Module, plain: nn.Module) -> dict[str, dict[str, Any]]:
    """Specs of the activations of ``model`` that differ from what the factory makes."""
    own = {path: spec(module) for path, module in plain.named_modules(remove_duplicate=False) if is_activation(module)}
    now = {path: spec(module) for path, module in model.named_modules(remove_duplicate=False) if is_activation(module)}
    return {path: made for path, made in now.items() if own.get(path) != made}


def _skeleton(record: Architecture, state: Mapping[str, Tensor], plain: nn.Module) -> nn.Module:
    """``plain`` with the recorded activations, and with layers narrowed to the tensors' shapes. In place."""
    for path, made in sorted(record.activations.items()):
        try:
            set_module(plain, path, from_spec(made))
        except AttributeError as error:
            raise CheckpointError(f"the record has an activation at {path!r}, where {record.factory} has no module") from error
    narrow(plain, state, record.widths)
    return plain


def _check_widths(net: nn.Module, record: Architecture, where: str) -> None:
    """The record's widths are those of the network, and a built-in network runs: narrowing took the shapes of the tensors as they came.

    Raises:
        CheckpointError: layers do not fit together.
    """
    modules = dict(net.named_modules(remove_duplicate=False))
    for path, recorded in record.widths.items():
        found = width(modules[path]) if path in modules else None
        if found != recorded:
            raise CheckpointError(f"{where} does not fit this network: {path} has {found or 'no'} channels there, {recorded} in the record")
    if not is_builtin(record.factory):  # what others take as input we do not know
        return
    try:
        with mode(net, training=False), torch.no_grad(), shapes_only(net):
            net(torch.zeros(1, *record.input_shape))
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{where} does not fit this network: its layers do not fit each other ({first})") from error


def _check_rebuilt(model: nn.Module, rebuilt: nn.Module, state: Mapping[str, Tensor]) -> None:
    there = dict(rebuilt.named_modules(remove_duplicate=False))
    for path, module in model.named_modules(remove_duplicate=False):
        if path and type(there.get(path)) is not type(module):
            other = type(there[path]).__name__ if path in there else "missing"
            raise CheckpointError(f"{path} is {type(module).__name__}, and rebuilt it would be {other}")
    put_state(rebuilt, state, "the network")
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, PRINTED) and module.extra_repr() != there[path].extra_repr():  # stride, padding, groups, eps, ...
            raise CheckpointError(f"{path} is ({module.extra_repr()}), and rebuilt it would be ({there[path].extra_repr()})")


def _sorted(record: Architecture) -> Architecture:
    return replace(
        record,
        kwargs=dict(sorted(record.kwargs.items())),
        widths=dict(sorted(record.widths.items())),
        activations={path: dict(sorted(made.items())) for path, made in sorted(record.activations.items())},
    )
