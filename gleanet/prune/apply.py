"""A plan becomes a network: channels zeroed (same shape, for comparison) or removed (smaller). Both return copies.

Law (DESIGN 5.2): where the removed channels' outputs are constant, the network before and after gives the same logits.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gleanet.core.errors import ModelError, SettingsError
from gleanet.nn.architecture import architecture_of, has_architecture, set_architecture
from gleanet.nn.dry import shapes_only
from gleanet.nn.trace import batch_norms_behind, evaluating
from gleanet.nn.usable import clone, usable
from gleanet.prune.groups import Group, Grouping, find_groups
from gleanet.prune.layers import CONVS, NORMS, SCALING, TRANSPOSED, filters, narrow, weight_of
from gleanet.prune.plan import Plan


def zero(model: nn.Module, plan: Plan, *, grouping: Grouping | None = None) -> nn.Module:
    """A copy of ``model`` with the channels that the plan drops set to zero: filters, biases, scale and shift of norms.

    With those at zero the channel emits act(0), which is 0 for every activation we ship, so nothing is left to fold.

    Args:
        model, plan, grouping: as for :func:`apply`.

    Raises:
        SettingsError: the plan is not for this network.
    """
    model = usable(model)
    grouping = grouping_for(model, plan, grouping)
    result = clone(model)
    for group, drop in _drops(plan, grouping):
        zero_channels(result, group, drop)
    return result


@torch.no_grad()
def zero_channels(model: nn.Module, group: Group, drop: list[int], factor: float = 0.0) -> None:
    """Scale dropped channels of a group in place (0: zero them): filters, biases, scale and shift of norms.

    A norm without scale and shift has its running mean scaled instead, so that a channel at zero comes out as zero.
    """
    for member in group.members:
        for tensor in _scaled(model.get_submodule(member.path), member.role):
            positions = torch.tensor(member.positions(drop), device=tensor.device)
            if factor:
                tensor.index_copy_(0, positions, tensor[positions] * factor)
            else:
                tensor.index_fill_(0, positions, 0.0)


def _scaled(module: nn.Module, role: str) -> list[Tensor]:
    """The tensors of a layer that fall with a channel, channels first."""
    tensors: list[object] = []
    if role == "out":
        tensors = [filters(module), module.bias]
    elif role == "norm" and isinstance(module, NORMS) and not module.affine:
        tensors = [module.running_mean]
    elif role == "norm" and isinstance(module, SCALING):
        tensors = [module.weight, module.bias]
    return [tensor for tensor in tensors if isinstance(tensor, Tensor)]


def apply(model: nn.Module, plan: Plan, *, grouping: Grouping | None = None) -> nn.Module:
    """A smaller copy of ``model`` without the channels that the plan drops.

    Dropped channels whose filters are zero emit a constant (through batch-norm and activation); it is folded into the next layer's
    bias or batch-norm mean. Where that layer pads its input the constant is missing at the border, and what is folded is its mean
    over all positions; :func:`zero` leaves nothing to fold.

    Args:
        model: the network; not changed.
        plan: which channels stay.
        grouping: the groups of ``model``, when they are known already.

    Raises:
        SettingsError: the plan is not for this network.
        ModelError: the smaller network does not run (its code counts channels by itself).
    """
    model = usable(model)
    grouping = grouping_for(model, plan, grouping)
    result = clone(model)
    drops = _drops(plan, grouping)
    _fold_constants(result, plan, grouping, drops)
    losses: dict[tuple[str, str], set[int]] = defaultdict(set)
    for group, drop in drops:
        for member in group.members:
            losses[member.path, member.role].update(member.positions(drop))
    for (path, role), gone in losses.items():
        narrow(result.get_submodule(path), role, sorted(gone))
    _note_widths(result, losses)
    try:
        with evaluating(result), shapes_only(result):
            result(_blank(result, plan))
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"the pruned {type(model).__name__} does not run ({first}): its code counts channels itself") from error
    return result


def grouping_for(model: nn.Module, plan: Plan, known: Grouping | None = None) -> Grouping:
    """The groups of ``model`` (found anew, if they are not known), checked against the plan.

    Raises:
        SettingsError: the plan is not for this network.
    """
    if next(model.parameters(), None) is None:
        raise SettingsError(f"the plan is for another network: {type(model).__name__} has no parameters")
    try:
        grouping = known or find_groups(model, _blank(model, plan), residual=plan.residual)
    except ModelError as error:
        raise SettingsError(f"the plan is for another network: {error}") from error
    check_plan(plan, grouping)
    return grouping


def check_plan(plan: Plan, grouping: Grouping) -> None:
    """Compare a plan with a network's groups.

    Raises:
        SettingsError: the plan names other groups or widths, or keeps channels that are not there.
    """
    here, there = {g.name: g.channels for g in grouping.groups}, {part.name: part.channels for part in plan.groups}
    for name in [*there, *here]:
        if here.get(name) != there.get(name):
            found = [f"{widths[name]} channels" if name in widths else "no such group" for widths in (here, there)]
            raise SettingsError(f"the plan is for another network: group {name} has {found[0]} here, {found[1]} in the plan")
    for part in plan.groups:
        if not part.keep or list(part.keep) != sorted(set(part.keep)) or part.keep[0] < 0 or part.keep[-1] >= part.channels:
            raise SettingsError(f"the plan is damaged: group {part.name} must keep ascending positions below {part.channels}, at least one")


def _drops(plan: Plan, grouping: Grouping) -> list[tuple[Group, list[int]]]:
    known = grouping.named()
    return [(known[part.name], list(part.drop())) for part in plan.groups if len(part.keep) < part.channels]


def _blank(model: nn.Module, plan: Plan) -> Tensor:
    return torch.zeros(1, *plan.input_shape).to(next(model.parameters()))


def _fold_constants(model: nn.Module, plan: Plan, grouping: Grouping, drops: list[tuple[Group, list[int]]]) -> None:
    """Give the constants that dropped channels still emit to the layers that read them, before the channels go."""
    constant: dict[str, list[int]] = defaultdict(list)
    for group, drop in drops:
        silent = _silent(model, group, drop)
        if group.offset and len(silent) < len(drop):
            zero_channels(model, group, sorted(set(drop) - set(silent)))
            silent = drop
        for member in group.consumers() if silent else ():
            constant[member.path] += member.positions(silent)
    if not constant:
        return
    norms = batch_norms_behind(grouping.traced)
    shifts = {path: contribution(model.get_submodule(path), x, constant[path]) for path, x in _inputs(model, plan, set(constant)).items()}
    for path, shift in shifts.items():
        add_to_output(model.get_submodule(path), model.get_submodule(norms[path]) if path in norms else None, shift)


def _silent(model: nn.Module, group: Group, drop: list[int]) -> list[int]:
    """Dropped channels for which every producer has zero weights, so that what they emit is one constant."""
    silent = torch.tensor(drop)
    for member in group.producers():
        rows = filters(model.get_submodule(member.path)).flatten(1)
        for columns in (rows[:, :1], rows):  # the first weight alone tells nearly always
            index = torch.tensor(member.index)[silent]
            silent = silent[~columns[index.to(rows.device)].flatten(1).any(1).cpu()]
    return [int(channel) for channel in silent]


def _inputs(model: nn.Module, plan: Plan, paths: set[str]) -> dict[str, Tensor]:
    """What the named layers read for a blank image: enough to see constants."""
    seen: dict[str, Tensor] = {}

    def hook(path: str) -> RemovableHandle:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(path, inputs[0].clone())

        return model.get_submodule(path).register_forward_pre_hook(see)

    handles = [hook(path) for path in paths]
    try:
        with evaluating(model):
            model(_blank(model, plan))
    finally:
        for handle in handles:
            handle.remove()
    return seen


@torch.no_grad()
def contribution(module: nn.Module, x: Tensor, positions: list[int]) -> Tensor:
    """What some input channels add to each output channel of a layer [out], on average over all output positions."""
    dim = x.dim() - 1 if isinstance(module, nn.Linear) else 1
    some = torch.zeros_like(x)
    index = torch.tensor(sorted(set(positions)), device=x.device)
    some.index_copy_(dim, index, x.index_select(dim, index))
    added: Tensor = module(some) - module(torch.zeros_like(x))
    return added.movedim(dim, 0).flatten(1).mean(1)


@torch.no_grad()
def add_to_output(module: nn.Module, norm: nn.Module | None, shift: Tensor) -> None:
    """Add a constant [out] to a layer's output: to its bias, else to the mean of the batch-norm behind it, else to a new bias."""
    if isinstance(module.bias, Tensor):
        module.bias += shift.to(module.bias)
    elif norm is not None and isinstance(norm.running_mean, Tensor):
        norm.running_mean -= shift.to(norm.running_mean)
    elif bool(shift.any()):
        module.bias = nn.Parameter(shift.to(weight_of(module)))


def _note_widths(model: nn.Module, losses: Collection[tuple[str, str]]) -> None:
    """Keep the architecture record true: the widths of convolutions, and of norms that have no tensor whose shape could tell."""
    if not has_architecture(model):
        return
    architecture = architecture_of(model)
    widths = dict(architecture.widths)
    for path, role in losses:
        module = model.get_submodule(path)
        if role == "out" and isinstance(module, (*CONVS, *TRANSPOSED)):
            widths[path] = module.out_channels
        elif role == "norm" and isinstance(module, SCALING) and not module.state_dict():
            widths[path] = module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
    set_architecture(model, replace(architecture, widths=widths))
