"""The criteria ``taylor`` and ``activation`` inside a training loop: what its own batches and gradients say between two rankings of FCR.

``taylor`` is read from the gradients that an optimizer step leaves behind: the derivative of the loss by a gate behind a norm is
``gamma dE/dgamma + beta dE/dbeta`` (P. Molchanov et al., CVPR 2019, section 3.2), by one behind a layer without a norm ``w . dE/dw + b
dE/db``. (Where a norm follows, the latter says nothing: the norm takes the filter's length away, so ``w . dE/dw`` is 0.) That costs no
work in the loop, and under DistributedDataParallel the gradients are already those of all processes. ``activation`` has no trace in
parameters: it is measured by hooks, on training batches, and its sums are added over the processes when a ranking asks for them.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gleanet.core.errors import SettingsError
from gleanet.prune.groups import Group, Grouping
from gleanet.prune.layers import SCALING, TRANSPOSED, weight_of, widths
from gleanet.prune.observe import by_channel, mean_magnitude, readers

WATCHED = ("taylor", "activation")


class Watch:
    """Sums of what training showed since the last ranking.

    Args:
        criterion: "taylor" or "activation".
        model: the network in training, not its DistributedDataParallel wrapper.
        grouping: its groups.
        processes: the process group to add sums over, where several processes train one network.
    """

    def __init__(self, criterion: str, model: nn.Module, grouping: Grouping, processes: dist.ProcessGroup | None = None) -> None:
        self._criterion, self._model, self._groups, self._processes = criterion, model, grouping.groups, processes
        if criterion == "taylor":
            sizes = {group.name: group.channels for group in grouping.groups}
        else:
            sizes = {path: widths(model.get_submodule(path))[1] for path in readers(grouping)}
        self._totals = {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}
        self._counts = dict.fromkeys(sizes, 0)
        self._handles = []
        if criterion == "activation":
            self._handles = [model.get_submodule(path).register_forward_pre_hook(self._reading(path)) for path in sizes]

    @property
    def seen(self) -> bool:
        """Whether there is anything to rank by."""
        return any(self._counts.values())

    def step(self) -> None:
        """Call after each optimizer step, while its gradients are there.

        Raises:
            SettingsError: there are no gradients.
        """
        if self._criterion != "taylor":
            return
        gates = {group.name: _gate_gradient(self._model, group) for group in self._groups}
        if all(gate is None for gate in gates.values()):
            raise SettingsError(
                "criterion 'taylor' reads gradients and found none: call fcr.step() after optimizer.step(), before zero_grad()"
            )
        for name, gate in gates.items():
            gate = torch.zeros_like(self._totals[name]) if gate is None else gate  # frozen layers teach nothing
            if bool(torch.isfinite(gate).all()):  # else a gradient scaler has skipped this step
                self._totals[name] += gate.square()
                self._counts[name] += 1

    def take(self) -> dict[str, Tensor]:
        """Scores float64 [C] by group name, means since the last call; then begin anew.

        Raises:
            SettingsError: no training batch went through the network since.
        """
        totals, counts = self._together()
        if not any(counts.values()):
            raise SettingsError(
                f"criterion {self._criterion!r} saw no training batch: give FCR the network that is trained, in training mode"
            )
        means = {name: total / max(1, counts[name]) for name, total in totals.items()}
        for name, total in self._totals.items():
            total.zero_()
            self._counts[name] = 0
        return means if self._criterion == "taylor" else {group.name: by_channel(group, means) for group in self._groups}

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, as plain values; those of this process."""
        return {"totals": {name: total.tolist() for name, total in self._totals.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state_dict` gave; KeyError, TypeError or ValueError where it is none of this network."""
        totals = {name: torch.tensor(state["totals"][name], dtype=torch.float64) for name in self._totals}
        counts = {name: int(state["counts"][name]) for name in self._totals}
        if any(total.shape != self._totals[name].shape for name, total in totals.items()):
            raise ValueError("other widths")
        self._totals, self._counts = totals, counts

    def _reading(self, path: str) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training:
                self._totals[path] += mean_magnitude(module, inputs[0]) * len(inputs[0])
                self._counts[path] += len(inputs[0])

        return see

    def _together(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Totals and counts of all processes; one exchange, in which every process takes part."""
        if self._processes is None or self._criterion == "taylor":
            return {name: total.clone() for name, total in self._totals.items()}, dict(self._counts)
        names, place = sorted(self._totals), next(self._model.parameters()).device
        counts = torch.tensor([float(self._counts[name]) for name in names], dtype=torch.float64)
        everything = torch.cat([counts, *(self._totals[name] for name in names)]).to(place)
        dist.all_reduce(everything, group=self._processes)
        summed = torch.split(everything.cpu(), [len(names), *(len(self._totals[name]) for name in names)])
        return dict(zip(names, summed[1:], strict=True)), {name: round(float(n)) for name, n in zip(names, summed[0], strict=True)}


def _gate_gradient(model: nn.Module, group: Group) -> Tensor | None:
    """dE/dg of a gate on each channel [C], float64 on the CPU, from parameters and their gradients; None where there are none."""
    norms = [m for m in group.members if m.role == "norm" and isinstance(model.get_submodule(m.path), SCALING)]
    gated = [m for m in norms if isinstance(model.get_submodule(m.path).weight, Tensor)] or group.producers()
    found = [(products, m) for m in gated if (products := _products(model.get_submodule(m.path))) is not None]
    if not found:
        return None
    return torch.stack([products[torch.tensor(m.index, device=products.device)].sum(1) for products, m in found]).sum(0).double().cpu()


def _products(module: nn.Module) -> Tensor | None:
    """Parameter times gradient, summed over all parameters of each output position [positions]."""
    weight = weight_of(module)
    if weight.grad is None:
        return None
    product = weight.detach() * weight.grad
    if isinstance(module, TRANSPOSED) and module.groups == 1:
        product = product.transpose(0, 1)
    total = product.reshape(len(product), -1).sum(1)
    if isinstance(module.bias, Tensor) and module.bias.grad is not None:
        total = total + module.bias.detach() * module.bias.grad
    return total
