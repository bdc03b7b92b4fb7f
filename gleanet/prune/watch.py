"""The criteria ``taylor`` and ``activation`` inside a training loop: what its own batches and gradients say between two rankings of FCR.

``taylor`` is read from the gradients that an optimizer step leaves behind: the derivative of the loss by a gate behind a norm is
``gamma dE/dgamma + beta dE/dbeta`` (P. Molchanov et al., CVPR 2019, section 3.2), by one behind a layer without a norm ``w . dE/dw + b
dE/db``. (Where a norm follows, the latter says nothing: the norm takes the filter's length away, so ``w . dE/dw`` is 0.) That costs no
work in the loop, and under DistributedDataParallel the gradients are already those of all processes. ``activation`` has no trace in
parameters: it is measured by hooks, on training batches, and its sums are added over the processes after each step, so that all of them
hold the same.
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
        # the last entry counts; all stay on the network's device until a ranking, which alone waits for it
        self._sums = {name: torch.zeros(size + 1, dtype=torch.float64) for name, size in sizes.items()}
        self._seen_here: dict[str, Tensor] = {}  # "activation" in several processes: what this one has seen since the last step
        self._handles = []
        if criterion == "activation":
            self._handles = [model.get_submodule(path).register_forward_pre_hook(self._reading(path)) for path in sizes]

    @property
    def seen(self) -> bool:
        """Whether there is anything to rank by."""
        return any(float(total[-1]) > 0 for total in self._sums.values())

    def step(self) -> None:
        """Call after each optimizer step, while its gradients are there.

        Raises:
            SettingsError: there are no gradients.
        """
        if self._criterion != "taylor":
            self._put_together()
            return
        gates = {group.name: _gate_gradient(self._model, group) for group in self._groups}
        if all(gate is None for gate in gates.values()):
            raise SettingsError(
                "criterion 'taylor' reads gradients and found none: call fcr.step() after optimizer.step(), before zero_grad()"
            )
        for name, gate in gates.items():
            self._add(name, torch.zeros(len(self._sums[name]) - 1) if gate is None else gate.double().square(), 1)

    def take(self) -> dict[str, Tensor]:
        """Scores float64 [C] by group name, means since the last call; then begin anew.

        Raises:
            SettingsError: no training batch went through the network since.
        """
        sums = {name: total.cpu() for name, total in self._sums.items()}
        if not any(float(total[-1]) > 0 for total in sums.values()):
            raise SettingsError(
                f"criterion {self._criterion!r} saw no training batch (or no finite gradients) since the last ranking: give FCR the "
                "network that is trained, in training mode"
            )
        means = {name: total[:-1] / total[-1].clamp(min=1) for name, total in sums.items()}
        self._sums = {name: torch.zeros_like(total) for name, total in self._sums.items()}
        return means if self._criterion == "taylor" else {group.name: by_channel(group, means) for group in self._groups}

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, as plain values, the same in all processes. The last of each list is a count."""
        return {name: total.tolist() for name, total in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state_dict` gave; KeyError, TypeError or ValueError where it is none of this network."""
        sums = {name: torch.tensor(state[name], dtype=torch.float64) for name in self._sums}
        if any(total.shape != self._sums[name].shape for name, total in sums.items()):
            raise ValueError("other widths")
        self._sums = sums

    def _reading(self, path: str) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training and len(inputs[0]):
                self._add(path, mean_magnitude(module, inputs[0]) * len(inputs[0]), len(inputs[0]))

        return see

    def _add(self, name: str, values: Tensor, count: int) -> None:
        """Add values [size] and their count, unless a gradient scaler has skipped this step, which leaves values that are not finite."""
        entry = torch.cat([values, values.new_full((1,), count)]).double()
        sums = self._sums if self._processes is None or self._criterion == "taylor" else self._seen_here
        so_far = sums.get(name, torch.zeros_like(entry)).to(entry.device)
        sums[name] = so_far + torch.where(torch.isfinite(entry).all(), entry, 0.0)

    def _put_together(self) -> None:
        """Add what all processes have seen since the last step; one exchange, in which every process takes part."""
        if self._processes is None:
            return
        names, place = sorted(self._sums), next(self._model.parameters()).device
        here = [self._seen_here.get(name, torch.zeros_like(self._sums[name])).to(place) for name in names]
        self._seen_here = {}
        everything = torch.cat(here)
        dist.all_reduce(everything, group=self._processes)
        for name, entry in zip(names, torch.split(everything, [len(part) for part in here]), strict=True):
            self._sums[name] = self._sums[name].to(place) + entry


def _gate_gradient(model: nn.Module, group: Group) -> Tensor | None:
    """dE/dg of a gate on each channel [C], from parameters and their gradients; None where there are none."""
    norms = [m for m in group.members if m.role == "norm" and isinstance(model.get_submodule(m.path), SCALING)]
    gated = [m for m in norms if isinstance(model.get_submodule(m.path).weight, Tensor)] or group.producers()
    found = [(products, m) for m in gated if (products := _products(model.get_submodule(m.path))) is not None]
    if not found:
        return None
    return torch.stack([products[torch.tensor(m.index, device=products.device)].sum(1) for products, m in found]).sum(0)


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
