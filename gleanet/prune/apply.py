"""A plan becomes a network: channels zeroed (same shape, for comparison) or removed (smaller). Both return copies.

Law (DESIGN 5.2): where the removed channels' outputs are constant, the network before and after gives the same logits.
"""

import copy
from collections import defaultdict
from dataclasses import replace

import torch
from torch import nn

from gleanet.core.errors import ModelError, SettingsError
from gleanet.nn.architecture import architecture_of, has_architecture, set_architecture
from gleanet.prune.channels import CONVS, NORMS
from gleanet.prune.groups import Group, Grouping, Member, find_groups, is_depthwise
from gleanet.prune.plan import Plan


def zero(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of ``model`` with the channels that the plan drops set to zero: filters, biases, batch-norm scale and shift.

    With the batch-norm entries at zero the channel emits act(0), which is 0 for every activation we ship, so nothing is left to fold.
    """
    result = copy.deepcopy(model)
    for group, drop in _drops(result, plan, grouping_for(result, plan)):
        zero_channels(result, group, drop)
    return result


@torch.no_grad()
def zero_channels(model: nn.Module, group: Group, drop: list[int], factor: float = 0.0) -> None:
    """Scale dropped channels of a group in place (0: zero them): filters, biases, batch-norm scale and shift."""
    for member in group.members:
        if member.role == "in":
            continue
        module = model.get_submodule(member.path)
        positions = _positions(member, drop)
        for name in ("weight", "bias"):
            parameter = getattr(module, name, None)
            if isinstance(parameter, torch.Tensor):
                parameter[positions] = parameter[positions] * factor if factor else 0.0


def apply(model: nn.Module, plan: Plan, *, grouping: Grouping | None = None) -> nn.Module:
    """A smaller copy of ``model`` without the channels that the plan drops.

    Dropped channels whose filters are zero emit a constant (through batch-norm and activation); it is folded into the next layer's
    bias or batch-norm mean. Under zero padding that is exact inside and not at the borders; :func:`zero` leaves nothing to fold.

    Raises:
        SettingsError: the plan is not for this network.
        ModelError: the smaller network does not run (its code counts channels by itself).
    """
    grouping = grouping or grouping_for(model, plan)
    result = copy.deepcopy(model)
    drops = _drops(result, plan, grouping)
    _fold_constants(result, plan, drops)
    losses: dict[tuple[str, str], set[int]] = defaultdict(set)
    for group, drop in drops:
        for member in group.members:
            losses[member.path, member.role].update(_positions(member, drop))
    for (path, role), gone in losses.items():
        _shrink(result.get_submodule(path), role, sorted(gone))
    _note_widths(result, plan)
    _check_runs(result, plan)
    return result


def grouping_for(model: nn.Module, plan: Plan) -> Grouping:
    """The groups of ``model``, checked against the plan.

    Raises:
        SettingsError: the plan names other groups or widths.
    """
    parameter = next(model.parameters())
    example = torch.zeros(1, *plan.input_shape, dtype=parameter.dtype, device=parameter.device)
    grouping = find_groups(model, example, residual=plan.residual)
    known = grouping.named()
    for part in plan.groups:
        if part.name not in known:
            raise SettingsError(f"the plan is for another network: this one has no group {part.name!r}")
        if known[part.name].channels != part.channels:
            raise SettingsError(
                f"the plan is for another network: group {part.name} has {known[part.name].channels} channels here, {part.channels} in the plan"
            )
    return grouping


def _drops(model: nn.Module, plan: Plan, grouping: Grouping) -> list[tuple[Group, list[int]]]:
    known = grouping.named()
    return [(known[part.name], list(part.drop())) for part in plan.groups if len(part.keep) < part.channels]


def _positions(member: Member, channels: list[int]) -> list[int]:
    return [position for channel in channels for position in member.index[channel]]


def _kept(size: int, gone: list[int], like: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(size, dtype=torch.bool, device=like.device)
    mask[gone] = False
    return mask.nonzero().flatten()


def _shrink(module: nn.Module, role: str, gone: list[int]) -> None:
    """Remove positions of one dimension of one module, in place."""
    if isinstance(module, NORMS):
        weight = module.running_mean if module.running_mean is not None else module.weight
        assert weight is not None
        keep = _kept(module.num_features, gone, weight)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(module, name, keep, 0)
        module.num_features = len(keep)
        return
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    if role == "out":
        keep = _kept(weight.shape[0], gone, weight)
        depthwise = is_depthwise(module)
        _select(module, "weight", keep, 0)
        _select(module, "bias", keep, 0)
        if isinstance(module, nn.Linear):
            module.out_features = len(keep)
        elif isinstance(module, CONVS):
            module.out_channels = len(keep)
            if depthwise:
                module.in_channels = module.groups = len(keep)
    elif isinstance(module, nn.Linear):
        keep = _kept(module.in_features, gone, weight)
        _select(module, "weight", keep, 1)
        module.in_features = len(keep)
    elif isinstance(module, CONVS):
        keep = _kept(module.in_channels, gone, weight)
        # a grouped convolution loses the same positions in each of its groups: those of the first group say which
        _select(module, "weight", keep[keep < module.in_channels // module.groups], 1)
        module.in_channels = len(keep)


def _select(module: nn.Module, name: str, keep: torch.Tensor, dim: int) -> None:
    tensor = getattr(module, name, None)
    if isinstance(tensor, nn.Parameter):
        setattr(module, name, nn.Parameter(tensor.detach().index_select(dim, keep).contiguous(), requires_grad=tensor.requires_grad))
    elif isinstance(tensor, torch.Tensor):
        setattr(module, name, tensor.index_select(dim, keep).contiguous())


@torch.no_grad()
def _fold_constants(model: nn.Module, plan: Plan, drops: list[tuple[Group, list[int]]]) -> None:
    """Give the constant that zero filters still emit to the layers that read it, before the filters go."""
    constant = [(group, silent) for group, drop in drops if (silent := [c for c in drop if _is_silent(model, group, c)])]
    if not constant:
        return
    emitted = _inputs_of(model, plan, {m.path for group, _ in constant for m in group.consumers()})
    norms = _norm_after(model, plan)
    for group, silent in constant:
        for member in group.consumers():
            module, positions = model.get_submodule(member.path), _positions(member, silent)
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if is_depthwise(module) or getattr(module, "groups", 1) > 1:
                continue
            x = emitted[member.path]
            value = x[0, positions].flatten(1)[:, 0] if x.dim() == 4 else x.reshape(-1, x.shape[-1])[0, positions]
            columns = weight[:, positions].flatten(2).sum(2) if weight.dim() > 2 else weight[:, positions]
            add_to_output(module, norms.get(member.path), columns @ value)


def _is_silent(model: nn.Module, group: Group, channel: int) -> bool:
    """Every layer that produces the channel has zero weights for it, so its output is one constant."""
    for member in group.producers():
        weight = model.get_submodule(member.path).weight
        assert isinstance(weight, torch.Tensor)
        if bool(weight[list(member.index[channel])].any()):
            return False
    return True


def _inputs_of(model: nn.Module, plan: Plan, paths: set[str]) -> dict[str, torch.Tensor]:
    """What the named layers read for a zero image: enough to see constants."""
    seen: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(path).register_forward_pre_hook(lambda module, inputs, path=path: seen.__setitem__(path, inputs[0])) for path in paths
    ]
    was_training = model.training
    parameter = next(model.parameters())
    try:
        model.eval()(torch.zeros(1, *plan.input_shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return seen


def _norm_after(model: nn.Module, plan: Plan) -> dict[str, nn.Module]:
    """The batch-norm that alone reads a layer's output, by the layer's path."""
    traced = grouping_for(model, plan).traced
    modules = dict(model.named_modules())
    result = {}
    for node in traced.graph.nodes:
        users = list(node.users)
        if node.op == "call_module" and len(users) == 1 and users[0].op == "call_module":
            norm = modules[str(users[0].target)]
            if isinstance(norm, NORMS) and norm.running_mean is not None:
                result[str(node.target)] = norm
    return result


@torch.no_grad()
def add_to_output(module: nn.Module, norm: nn.Module | None, shift: torch.Tensor) -> None:
    """Add a constant [out] to a layer's output: to its bias, else to the mean of the batch-norm behind it, else to a new bias."""
    if isinstance(module.bias, torch.Tensor):
        module.bias += shift.to(module.bias)
    elif norm is not None and isinstance(norm.running_mean, torch.Tensor):
        norm.running_mean -= shift.to(norm.running_mean)
    elif bool(shift.any()):
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        module.bias = nn.Parameter(shift.to(weight))


def _note_widths(model: nn.Module, plan: Plan) -> None:
    """Keep the architecture record true, so that the smaller network can be saved and rebuilt."""
    if has_architecture(model):
        architecture = architecture_of(model)
        widths = {part.name: len(part.keep) for part in plan.groups if len(part.keep) < part.channels}
        set_architecture(model, replace(architecture, widths={**architecture.widths, **widths}))


def _check_runs(model: nn.Module, plan: Plan) -> None:
    try:
        _inputs_of(model, plan, set())
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the pruned {type(model).__name__} does not run ({str(error).splitlines()[0]}): its code counts channels itself") from error
