"""Where every channel goes: labels that travel through the network's own operations.

Each output channel of each convolution and linear layer gets a label. Labels are pushed through the traced graph in tensors of the
activations' shapes: operations that only move values (flatten, concat, chunk, permute, slice, ...) are run on the labels
themselves, so whatever they do to channels is followed without a rule of its own. Where two labels meet (a residual add), their
channels must live or die together: the labels are joined. Label 0 stands for what cannot be removed (the image, zero padding,
the network's output).

Dependency graphs with one rule per operation (G. Fang et al., "DepGraph", CVPR 2023) break on reshape and concat; labels do not.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

FIXED = 0
Role = Literal["out", "norm", "in"]
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Upsample, nn.ZeroPad2d,
)  # fmt: skip
ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
POOL_FUNCTIONS = {
    F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
    F.interpolate, torch.max_pool2d, torch.avg_pool1d, torch.adaptive_avg_pool1d,
}  # fmt: skip
ELEMENTWISE_FUNCTIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.softplus, F.dropout,
    torch.relu, torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, torch.exp, operator.neg, torch.neg, torch.abs, torch.clamp,
}  # fmt: skip
ELEMENTWISE_METHODS = {"relu", "sigmoid", "tanh", "exp", "neg", "abs", "clamp", "float", "to", "clone", "detach", "relu_"}
JOINING_FUNCTIONS = {operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv, torch.add, torch.sub, torch.mul}
JOINING_METHODS = {"add", "add_", "sub", "mul", "mul_"}
MOVING_FUNCTIONS = {
    torch.flatten, torch.cat, torch.concat, torch.chunk, torch.split, torch.permute, torch.transpose, torch.reshape, torch.squeeze,
    torch.unsqueeze, operator.getitem,
}  # fmt: skip
MOVING_METHODS = {
    "flatten", "view", "reshape", "permute", "transpose", "chunk", "split", "squeeze", "unsqueeze", "contiguous", "size", "dim",
}  # fmt: skip
ATTENTION_FUNCTIONS = {F.scaled_dot_product_attention, F.multi_head_attention_forward}


@dataclass
class Labels:
    """Union-find over labels, the places that carry them, and why some cannot be removed."""

    parent: list[int] = field(default_factory=lambda: [FIXED])
    places: list[tuple[str, Role, list[int]]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    added: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> torch.Tensor:
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def root(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def join(self, one: torch.Tensor, other: torch.Tensor) -> None:
        """Join labels position by position (equal shapes); the smaller root wins, so FIXED is never lost."""
        pairs = torch.unique(torch.stack([one.reshape(-1), other.reshape(-1)]), dim=1).T.tolist()
        for a, b in pairs:
            ra, rb = self.root(a), self.root(b)
            if ra != rb:
                self.parent[max(ra, rb)] = min(ra, rb)

    def fix(self, labels: torch.Tensor, reason: str) -> None:
        for label in torch.unique(labels).tolist():
            if label != FIXED:
                self.reasons.setdefault(label, reason)
                self.parent[self.root(label)] = FIXED

    def put(self, path: str, role: Role, labels: torch.Tensor) -> None:
        """Note which labels a module's dimension carries; a module called twice joins its two sets."""
        mine = labels.tolist()
        for known_path, known_role, known in self.places:
            if (known_path, known_role) == (path, role):
                self.join(torch.tensor(known), labels)
                return
        self.places.append((path, role, mine))


def follow(traced: fx.GraphModule) -> Labels:
    """Push labels through the graph.

    Returns:
        the labels, joined where channels are tied, with the module dimensions that carry them.
    """
    labels = Labels()
    values: dict[fx.Node, Any] = {}
    modules = dict(traced.named_modules())

    for node in traced.graph.nodes:
        args = fx.node.map_arg(node.args, lambda n: values[n])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
        if node.op == "placeholder":
            values[node] = _like(node, None)
        elif node.op == "get_attr":
            values[node] = _like(node, None) if "tensor_meta" in node.meta else None
        elif node.op == "call_module":
            values[node] = _through_module(labels, node, modules[str(node.target)], args)
        elif node.op == "output":
            for tensor in _tensors(args):
                labels.fix(tensor, "it is the network's output")
        else:
            values[node] = _through_call(labels, node, args, kwargs)
    return labels


def per_channel(tensor: torch.Tensor) -> torch.Tensor | None:
    """The label of each channel [C] of a tensor [1, C, ...], or None where one channel's positions carry different labels."""
    flat = tensor[0].reshape(tensor.shape[1], -1) if tensor.dim() > 2 else tensor[0].reshape(-1, 1)
    first = flat[:, :1]
    return first[:, 0] if bool((flat == first).all()) else None


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, (list, tuple)) else []


def _like(node: fx.Node, channel_labels: torch.Tensor | None) -> Any:
    """Labels of the shape of a node's value: [1, C, ...] with one label a channel, or all fixed."""
    meta = node.meta.get("tensor_meta")
    if not hasattr(meta, "shape"):
        return tuple(torch.zeros(m.shape, dtype=torch.long) for m in meta) if isinstance(meta, (tuple, list)) else None
    shape = tuple(meta.shape)
    if channel_labels is None:
        return torch.zeros((), dtype=torch.long).expand(shape)
    return channel_labels.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def _last_dim(node: fx.Node, feature_labels: torch.Tensor) -> torch.Tensor:
    return feature_labels.expand(tuple(node.meta["tensor_meta"].shape))


def _give_up(labels: Labels, node: fx.Node, inputs: list[torch.Tensor], reason: str) -> Any:
    for tensor in inputs:
        labels.fix(tensor, reason)
    return _like(node, None)


def _through_module(labels: Labels, node: fx.Node, module: nn.Module, args: tuple[Any, ...]) -> Any:
    path, inputs = str(node.target), _tensors(args)
    kind = type(module).__name__
    if not inputs:
        return _like(node, None)
    x = inputs[0]
    if isinstance(module, (*ACTIVATION_MODULES,)) or getattr(module, "elementwise", False):
        return x
    if isinstance(module, nn.Flatten):
        return module(x)
    if isinstance(module, nn.Linear):
        return _through_linear(labels, node, module, x)
    channels = per_channel(x) if x.dim() > 1 else None
    if channels is None:
        return _give_up(labels, node, inputs, f"{path} ({kind}) mixes its positions")
    if isinstance(module, CONVS):
        return _through_conv(labels, node, module, channels)
    if isinstance(module, NORMS):
        if module.affine or module.track_running_stats:
            labels.put(path, "norm", channels)
        return x
    if isinstance(module, POOLS):
        return _like(node, channels)
    return _give_up(labels, node, inputs, f"{path} ({kind}) is not known")


def _through_conv(labels: Labels, node: fx.Node, module: nn.Module, channels: torch.Tensor) -> torch.Tensor:
    assert isinstance(module, CONVS)
    path, groups = str(node.target), module.groups
    if groups == module.in_channels and groups > 1 and module.out_channels == groups:  # depthwise: channel in = channel out
        labels.put(path, "out", channels)
        return _like(node, channels)
    out = labels.fresh(module.out_channels)
    if groups > 1:  # every group of the convolution must keep the same positions, so that all shrink together
        for grid in (channels.reshape(groups, -1), out.reshape(groups, -1)):
            labels.join(grid[:1].expand_as(grid), grid)
    labels.put(path, "in", channels)
    labels.put(path, "out", out)
    return _like(node, out)


def _through_linear(labels: Labels, node: fx.Node, module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    path = str(node.target)
    features = x.reshape(-1, x.shape[-1])
    if not bool((features == features[:1]).all()):
        return _give_up(labels, node, [x], f"{path} (Linear) mixes positions")
    labels.put(path, "in", features[0])
    out = labels.fresh(module.out_features)
    labels.put(path, "out", out)
    return _last_dim(node, out)


def _through_call(labels: Labels, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target, inputs = node.target, _tensors((args, kwargs))
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    if target in ATTENTION_FUNCTIONS:
        return _give_up(labels, node, inputs, "it feeds attention, which gleanet does not prune")
    if not inputs or target is getattr:
        return _run(node, args, kwargs)
    if target in ELEMENTWISE_FUNCTIONS or (node.op == "call_method" and name in ELEMENTWISE_METHODS):
        return inputs[0]
    if target in JOINING_FUNCTIONS or (node.op == "call_method" and name in JOINING_METHODS):
        return _join(labels, inputs)
    if target in POOL_FUNCTIONS:
        channels = per_channel(inputs[0])
        return _give_up(labels, node, inputs, f"{name} mixes its positions") if channels is None else _like(node, channels)
    if target is F.pad:
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
        return F.pad(inputs[0], args[1] if len(args) > 1 else kwargs["pad"]) if mode == "constant" else _like(node, per_channel(inputs[0]))
    if target is torch.mean or name == "mean":
        return _mean(labels, node, inputs[0])
    if target in MOVING_FUNCTIONS or (node.op == "call_method" and name in MOVING_METHODS):
        return _move(labels, node, args, kwargs)
    return _give_up(labels, node, inputs, f"{name} is not known")


def _run(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    function: Callable[..., Any] = node.target  # type: ignore[assignment]
    return function(*args, **kwargs)


def _join(labels: Labels, inputs: list[torch.Tensor]) -> torch.Tensor:
    if len(inputs) == 1:  # the other operand is a number
        return inputs[0]
    one, other = torch.broadcast_tensors(inputs[0], inputs[1])
    labels.join(one, other)
    labels.added.update(torch.unique(one).tolist())
    return one


def _mean(labels: Labels, node: fx.Node, x: torch.Tensor) -> Any:
    """A mean over positions keeps channels; a mean over channels ties them to what comes out."""
    channels = per_channel(x) if x.dim() > 2 else None
    shape = node.meta["tensor_meta"].shape
    if channels is None or len(shape) < 2 or shape[1] != len(channels):
        return _give_up(labels, node, [x], "a mean is taken over channels")
    return _like(node, channels)


def _move(labels: Labels, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operation on the labels; a size written as a number in the network's code pins the channels it counts."""
    moved = _run(node, args, kwargs)
    if node.target in ("view", "reshape") or node.target is torch.reshape:
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = tuple(sizes[0])
        for dim, size in enumerate(sizes):
            if isinstance(size, int) and size != -1 and _varies(moved, dim):
                labels.fix(moved, f"the code reshapes it to a fixed size ({size}); write -1 there")
    return moved


def _varies(tensor: torch.Tensor, dim: int) -> bool:
    return tensor.shape[dim] > 1 and not bool((tensor == tensor.narrow(dim, 0, 1)).all())
