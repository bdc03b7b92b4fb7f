"""What a choice of widths costs, in closed form: multiply-accumulates, parameters and bytes without building the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd

from torch import nn
from torch.nn import functional

from gleanet.prune.groups import Grouping
from gleanet.prune.layers import TRANSPOSED, WEIGHTED, group_count, is_depthwise, kernel_size, per_channel_parameters, widths

Terms = list[tuple[str, int]]  # (group, positions that one of its channels takes)

# The 8-bit file (u8s8-channel of gleanet.quantize): a byte a weight; for each output channel a scale and zero point of the weights, an
# int32 bias and its scale. The rest, nodes and names, was fitted to files of six networks, and leans to the large side.
BYTES_PER_OUTPUT = 13
BYTES_PER_LAYER = 520
BYTES_PER_COPY = 250
BYTES_PER_FILE = 1300


@dataclass
class _Layer:
    """One convolution or linear layer. Weights = kernel * out * in / groups, with ``in / groups`` = 1 for depthwise.

    ``positions``: how often the weights are applied, summed over the layer's calls: output positions, or input positions of a
    transposed convolution.
    """

    positions: int
    kernel: int
    out: int
    in_: int
    groups: int
    depthwise: bool
    bias: bool
    out_terms: Terms = field(default_factory=list)
    in_terms: Terms = field(default_factory=list)

    def widths(self, removed: Mapping[str, int]) -> tuple[int, int]:
        return self.out - _sum(self.out_terms, removed), self.in_ - _sum(self.in_terms, removed)

    def weights(self, removed: Mapping[str, int]) -> int:
        per_out = 1 if self.depthwise else (self.in_ - _sum(self.in_terms, removed)) // self.groups
        return self.kernel * (self.out - _sum(self.out_terms, removed)) * per_out

    def params(self, removed: Mapping[str, int]) -> int:
        return self.weights(removed) + (self.out - _sum(self.out_terms, removed) if self.bias else 0)


class CostModel:
    """MACs, parameters and bytes as a function of how many channels each group keeps (all, of a group that is not named).

    Exact for every network that :func:`gleanet.prune.groups.find_groups` accepts; a test compares it with counting the network
    that removal builds.
    """

    def __init__(self, grouping: Grouping) -> None:
        self.channels = {group.name: group.channels for group in grouping.groups}
        # positions that a channel takes in the layers that produce it: more than one where several channels are tied
        self.multiples = {group.name: gcd(*(len(m.index[0]) for m in group.producers())) for group in grouping.groups}
        modules = dict(grouping.traced.named_modules())
        self._layers = _layers(grouping, modules)
        self._entries: Terms = []
        for group in grouping.groups:
            for member in group.members:
                times = len(member.index[0])
                if member.role == "norm":
                    self._entries.append((group.name, times * per_channel_parameters(modules[member.path])))
                else:
                    layer = self._layers[member.path]
                    (layer.out_terms if member.role == "out" else layer.in_terms).append((group.name, times))
        self._copies = _copies(grouping)
        self.macs_before = self.macs({})
        self.params_before = sum(p.numel() for p in grouping.traced.parameters())

    def layer_macs(self, kept: Mapping[str, int]) -> dict[str, int]:
        """MACs of one image, by layer path."""
        removed = self._removed(kept)
        return {path: layer.positions * layer.weights(removed) for path, layer in self._layers.items()}

    def macs(self, kept: Mapping[str, int]) -> int:
        """MACs of one image."""
        return sum(self.layer_macs(kept).values())

    def params(self, kept: Mapping[str, int]) -> int:
        """Parameters of the whole network; a bias that removal must add to fold a constant is not counted."""
        removed = self._removed(kept)
        saved = sum(layer.params({}) - layer.params(removed) for layer in self._layers.values())
        return self.params_before - saved - _sum(self._entries, removed)

    def int8_bytes(self, kept: Mapping[str, int]) -> int:
        """Bytes of the ONNX file with 8-bit weights, one scale per output channel; a few percent more than it really takes."""
        removed = self._removed(kept)
        layers = self._layers.values()
        weights = sum(layer.weights(removed) for layer in layers)
        outputs = sum(layer.widths(removed)[0] for layer in layers)
        return weights + self._copies + BYTES_PER_OUTPUT * outputs + BYTES_PER_LAYER * len(layers) + BYTES_PER_FILE

    def layer_widths(self, kept: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """(output, input) channels of each layer with weights, by path; a depthwise layer has as many inputs as its groups."""
        removed = self._removed(kept)
        return {path: layer.widths(removed) for path, layer in self._layers.items()}

    def sources(self, path: str) -> tuple[set[str], set[str]]:
        """The groups that a layer's output channels belong to, and those of its input channels."""
        layer = self._layers[path]
        return {name for name, _ in layer.out_terms}, {name for name, _ in layer.in_terms}

    def _removed(self, kept: Mapping[str, int]) -> dict[str, int]:
        return {name: self.channels[name] - count for name, count in kept.items() if count != self.channels[name]}


def _sum(terms: Terms, removed: Mapping[str, int]) -> int:
    return sum(removed.get(group, 0) * times for group, times in terms)


def _copies(grouping: Grouping) -> int:
    """Bytes of the 1 x 1 convolutions that the exporter writes for zero channels added to a shortcut (export/tidy.py)."""
    total = 0
    for node in grouping.traced.graph.nodes:
        if node.op == "call_function" and node.target is functional.pad:
            inputs = node.all_input_nodes[0].meta["tensor_meta"].shape[1]
            outputs = node.meta["tensor_meta"].shape[1]
            if inputs != outputs:
                total += outputs * (inputs + BYTES_PER_OUTPUT) + BYTES_PER_COPY
    return total


def _layers(grouping: Grouping, modules: Mapping[str, nn.Module]) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    for node in grouping.traced.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, WEIGHTED):
            continue
        counted = node.all_input_nodes[0] if isinstance(module, TRANSPOSED) else node
        shape = counted.meta["tensor_meta"].shape
        positions = (shape[1:-1] if isinstance(module, nn.Linear) else shape[2:]).numel()
        if str(node.target) in layers:  # called again: its weights are there once, its work is done once more
            layers[str(node.target)].positions += positions
            continue
        out, in_ = widths(module)
        layers[str(node.target)] = _Layer(
            positions, kernel_size(module), out, in_, group_count(module), is_depthwise(module), module.bias is not None
        )
    return layers
