"""What a choice of widths costs, in closed form: multiply-accumulates and parameters without building the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from gleanet.prune.channels import CONVS
from gleanet.prune.groups import Grouping, is_depthwise


@dataclass
class _Layer:
    """One convolution or linear layer: MACs = unit * out * in / groups, with ``in`` counted once for depthwise."""

    path: str
    unit: int
    out: int
    in_: int
    groups: int
    depthwise: bool
    bias: bool
    out_terms: list[tuple[str, int]] = field(default_factory=list)
    in_terms: list[tuple[str, int]] = field(default_factory=list)

    def width(self, base: int, terms: list[tuple[str, int]], removed: Mapping[str, int]) -> int:
        return base - sum(removed.get(group, 0) * times for group, times in terms)


class CostModel:
    """MACs and parameters as a function of how many channels each group keeps.

    Exact for every network that :func:`gleanet.prune.groups.find_groups` accepts; a test compares it with counting the network
    that removal builds.
    """

    def __init__(self, grouping: Grouping) -> None:
        self.channels = {group.name: group.channels for group in grouping.groups}
        modules = dict(grouping.traced.named_modules())
        self.layers = _layers(grouping, modules)
        by_path = {layer.path: layer for layer in self.layers}
        self._norm_terms: list[tuple[str, int]] = []
        for group in grouping.groups:
            for member in group.members:
                times = len(member.index[0])
                if member.role == "norm":
                    self._norm_terms.append((group.name, 2 * times if getattr(modules[member.path], "affine", False) else 0))
                elif member.path in by_path:
                    layer = by_path[member.path]
                    (layer.out_terms if member.role == "out" else layer.in_terms).append((group.name, times))
        self.macs_before = self.macs({})
        self.params_before = sum(p.numel() for p in grouping.traced.parameters())

    def removed(self, kept: Mapping[str, int]) -> dict[str, int]:
        return {name: channels - kept.get(name, channels) for name, channels in self.channels.items()}

    def layer_macs(self, kept: Mapping[str, int]) -> dict[str, int]:
        """MACs of one image, by layer path, when group ``g`` keeps ``kept[g]`` channels (all, where it is not named)."""
        removed = self.removed(kept)
        result: dict[str, int] = {}
        for layer in self.layers:
            out = layer.width(layer.out, layer.out_terms, removed)
            per_out = 1 if layer.depthwise else layer.width(layer.in_, layer.in_terms, removed) // layer.groups
            result[layer.path] = result.get(layer.path, 0) + layer.unit * out * per_out
        return result

    def macs(self, kept: Mapping[str, int]) -> int:
        """MACs of one image."""
        return sum(self.layer_macs(kept).values())

    def params(self, kept: Mapping[str, int], kernel: Mapping[str, int]) -> int:
        """Parameters; ``kernel`` holds the kernel positions of each layer (9 for 3x3)."""
        removed = self.removed(kept)
        total = self.params_before
        for layer in self.layers:
            before = kernel[layer.path] * layer.out * (1 if layer.depthwise else layer.in_ // layer.groups)
            out = layer.width(layer.out, layer.out_terms, removed)
            per_out = 1 if layer.depthwise else layer.width(layer.in_, layer.in_terms, removed) // layer.groups
            total += kernel[layer.path] * out * per_out - before - (layer.out - out if layer.bias else 0)
        return total - sum(removed[group] * times for group, times in self._norm_terms)

    def kernels(self, modules: Mapping[str, nn.Module]) -> dict[str, int]:
        sizes = {}
        for layer in self.layers:
            weight = modules[layer.path].weight
            assert isinstance(weight, nn.Parameter)
            sizes[layer.path] = weight[0, 0].numel()
        return sizes

    def saved_by_one(self, name: str) -> float:
        """MACs saved by removing one channel of a group from the whole network: the price tag that ranking divides by."""
        return float(self.macs_before - self.macs({name: self.channels[name] - 1}))


def _layers(grouping: Grouping, modules: Mapping[str, nn.Module]) -> list[_Layer]:
    layers = []
    for node in grouping.traced.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, CONVS):
            positions = node.meta["tensor_meta"].shape[2:].numel()
            kernel = module.weight[0, 0].numel()
            depthwise = is_depthwise(module)
            layers.append(
                _Layer(str(node.target), positions * kernel, module.out_channels, module.in_channels, module.groups, depthwise, module.bias is not None)
            )
        elif isinstance(module, nn.Linear):
            positions = node.meta["tensor_meta"].shape[1:-1].numel()
            layers.append(_Layer(str(node.target), positions, module.out_features, module.in_features, 1, False, module.bias is not None))
    return layers
