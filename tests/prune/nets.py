"""Small networks of every kind that pruning must follow, and the means to compare them. Input is [N, 3, 12, 12] unless said."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gleanet.nn import BeaMish, build
from gleanet.prune import Grouping, Plan
from gleanet.prune.budget import CostModel
from gleanet.prune.plan import make_plan

SHAPE = (3, 12, 12)


def conv(inputs: int, outputs: int, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **more)  # type: ignore[arg-type]


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **more: object) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel, **more), nn.BatchNorm2d(outputs), nn.ReLU())


class Head(nn.Module):
    """Global average pooling, flatten, linear."""

    def __init__(self, channels: int, classes: int = 5) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


class Chain(nn.Module):
    """conv (bn) relu pool, twice, then a flatten written in one of the ways people write it, and hidden linear layers."""

    def __init__(self, flatten: str = "module", norm: bool = True, act: type[nn.Module] = nn.ReLU, padding: int = 1) -> None:
        super().__init__()
        self.flatten, self.act = flatten, act()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1, bias=not norm), nn.Conv2d(8, 12, 3, padding=padding, bias=not norm)
        self.bn1: nn.Module = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.bn2: nn.Module = nn.BatchNorm2d(12) if norm else nn.Identity()
        self.flat = nn.Flatten()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12 * (2 + padding) ** 2, 16), nn.Linear(16, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.act(self.bn1(self.conv1(x))), 2)
        x = F.avg_pool2d(self.act(self.bn2(self.conv2(x))), 2)
        if self.flatten == "module":
            x = self.flat(x)
        elif self.flatten == "size":
            x = x.view(x.size(0), -1)
        elif self.flatten == "shape":
            n, c, h, w = x.shape
            x = x.reshape(n, c * h * w)
        elif self.flatten == "torch":
            x = torch.flatten(x, 1)
        elif self.flatten == "minus":
            x = x.view((-1, 12 * 9))
        else:
            x = x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1)
        return self.fc3(self.act(self.fc2(F.dropout(self.act(self.fc1(x)), 0.5, self.training))))  # type: ignore[no-any-return]


class OptionB(nn.Module):
    """Residual stages with a projected shortcut, basic and bottleneck, as ResNet for ImageNet has them."""

    def __init__(self, bottleneck: bool = False, widths: tuple[int, ...] = (8, 12), blocks: int = 2) -> None:
        super().__init__()
        self.stem, inputs, stages = conv_bn(3, widths[0]), widths[0], []
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Residual(inputs, width, 2 if stage and not block else 1, bottleneck))
                inputs = width * (4 if bottleneck else 1)
        self.stages, self.head = nn.Sequential(*stages), Head(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * (4 if bottleneck else 1)
        if bottleneck:
            inner = [conv_bn(inputs, width, 1), conv_bn(width, width, stride=stride), conv(width, outputs, 1)]
        else:
            inner = [conv_bn(inputs, width, stride=stride), conv(width, outputs)]
        self.body = nn.Sequential(*inner, nn.BatchNorm2d(outputs))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


class PreActivation(nn.Module):
    """bn-relu-conv residual blocks: the shortcut carries values before the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = conv(3, 8)
        self.bn1, self.conv1, self.bn2, self.conv2 = nn.BatchNorm2d(8), conv(8, 12), nn.BatchNorm2d(12), conv(12, 8)
        self.bn3, self.head = nn.BatchNorm2d(8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return self.head(F.relu(self.bn3(x + y)))  # type: ignore[no-any-return]


class Fire(nn.Module):
    """Two SqueezeNet fire modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.squeeze1, self.wide1, self.tall1 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 8, 3, padding=1)
        self.squeeze2, self.wide2, self.tall2 = nn.Conv2d(14, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 8, 3, padding=1)
        self.last = nn.Conv2d(14, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze1(F.max_pool2d(self.stem(x), 3, 2, ceil_mode=True)))
        x = torch.cat([F.relu(self.wide1(x)), F.relu(self.tall1(x))], 1)
        x = F.relu(self.squeeze2(x))
        x = torch.cat([F.relu(self.wide2(x)), F.relu(self.tall2(x))], dim=1)
        return F.relu(self.last(F.dropout(x, training=self.training))).mean([2, 3])


class Dense(nn.Module):
    """A DenseNet block and a transition: each layer reads everything before it, through a norm of its own."""

    def __init__(self, growth: int = 6, layers: int = 3) -> None:
        super().__init__()
        self.stem, width = conv(3, 8), 8
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv(width, growth)))
            width += growth
        self.transition = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv(width, width // 2, 1), nn.AvgPool2d(2))
        self.norm, self.head = nn.BatchNorm2d(width // 2), Head(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat((x, layer(x)), 1)
        return self.head(F.relu(self.norm(self.transition(x))))  # type: ignore[no-any-return]


class Inception(nn.Module):
    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n4, n6, n8 = 4 * times, 6 * times, 8 * times
        self.stem = conv_bn(3, n8)
        self.one, self.three, self.five = conv_bn(n8, n4, 1), nn.Sequential(conv_bn(n8, n4, 1), conv_bn(n4, n6)), conv_bn(n8, n4, 5)
        self.pooled, self.after, self.head = conv_bn(n8, n4, 1), conv_bn(18 * times, n8), Head(n8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(F.max_pool2d(x, 3, 1, 1))], 1)
        return self.head(self.after(x))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow without activation; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int = 3) -> None:
        super().__init__()
        inner = inputs * widen
        self.body = nn.Sequential(
            conv(inputs, inner, 1), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            conv(inner, inner, stride=stride, groups=inner), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            conv(inner, outputs, 1), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)  # type: ignore[no-any-return]


class MobileNetV2(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (8, 12), blocks: int = 2, stem: int = 8, last: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(3, stem)]
        inputs = stem
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(Inverted(inputs, width, 2 if stage and not block else 1))
                inputs = width
        self.features, self.head = nn.Sequential(*layers, conv_bn(inputs, last, 1)), Head(last)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """A gate over channels, on hard-sigmoid as MobileNetV3 has it; a gate at zero is not zero, its channel is."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n8, n16 = 8 * times, 16 * times
        self.stem, self.down, self.up = conv_bn(3, n16), nn.Conv2d(n16, n8, 1), nn.Conv2d(n8, n16, 1)
        self.after, self.head = conv_bn(n16, n8), Head(n8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(self.after(gate * x))  # type: ignore[no-any-return]


class Grouped(nn.Module):
    """ResNeXt's grouped convolution between two pointwise ones, then one with several filters for each channel."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n8, n16, n24 = 8 * times, 16 * times, 24 * times
        self.stem, self.grouped, self.mixed = conv_bn(3, n16, 1), conv_bn(n16, n24, groups=4), conv_bn(n24, n8, 1)
        self.fanned, self.last, self.head = conv_bn(n8, n16, groups=n8), conv_bn(n16, n8, 1), Head(n8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.fanned(self.mixed(self.grouped(self.stem(x))))))  # type: ignore[no-any-return]


class Parts(nn.Module):
    """chunk and split by half, a channel shuffle, and a pixel shuffle, as ShuffleNet and super-resolution write them."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n2, n6, n8, n16 = 2 * times, 6 * times, 8 * times, 16 * times
        self.stem, self.left, self.right = conv_bn(3, n16), conv_bn(n8, n8), conv_bn(n8, n8, 1)
        self.mixed, self.spread, self.after = conv_bn(n16, 2 * n6, groups=2), conv(n6, n8, 1), conv_bn(n2, n6)
        self.head = Head(n6)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.stem(x).chunk(2, dim=1)
        x = torch.cat([self.left(one), self.right(other)], 1)
        n, c, h, w = x.size()
        x = self.mixed(x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w))
        one, other = torch.split(x, x.size(1) // 2, dim=1)
        return self.head(self.after(F.pixel_shuffle(self.spread(one * torch.sigmoid(other)), 2)))  # type: ignore[no-any-return]


class Heads(nn.Module):
    """Two outputs, one module that is called twice, and a width that no layer but the output reads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.shared, self.first, self.second = conv_bn(3, width), conv_bn(width, width), Head(width, 4), Head(width, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.shared(self.shared(self.stem(x)))
        return {"first": self.first(x), "second": self.second(torch.relu(x))}


class UpAndDown(nn.Module):
    """Transposed and dilated convolutions, interpolation to another tensor's size, a skip by concat, as a small U-Net has them."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n8, n12 = 8 * times, 12 * times
        self.down1, self.down2 = conv_bn(3, n8), nn.Sequential(nn.Conv2d(n8, n12, 3, 2, 2, dilation=2), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(n12, n8, 3, 2, 1, output_padding=1, bias=False), nn.BatchNorm2d(n8), nn.ReLU())
        self.own = nn.Sequential(nn.ConvTranspose2d(n8, n8, 2, 2, groups=n8), nn.ReLU())
        self.merge, self.head = conv_bn(2 * n8, n8), Head(n8)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        x = self.own(self.up(self.down2(skip)))
        x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
        return self.head(self.merge(torch.cat([skip, x], 1)))  # type: ignore[no-any-return]


class Normed(nn.Module):
    """Norms other than batch-norm, batch-norm without scale and shift or without running statistics, activations with parameters."""

    def __init__(self, kind: str, times: int = 1) -> None:
        super().__init__()
        n8, n16 = 8 * times, 16 * times
        make: dict[str, Callable[[int], nn.Module]] = {
            "group": lambda n: nn.GroupNorm(4 * times, n),
            "instance": lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True),
            "plain-instance": nn.InstanceNorm2d,
            "plain-batch": lambda n: nn.BatchNorm2d(n, affine=False),
            "untracked": lambda n: nn.BatchNorm2d(n, track_running_stats=False),
            "layer": lambda n: nn.GroupNorm(1, n),
            "prelu": nn.PReLU,
            "beamish": lambda n: BeaMish(learnable=True, channels=n),
        }
        self.conv1, self.norm1, self.conv2, self.norm2 = conv(3, n16), make[kind](n16), conv(n16, n8), nn.BatchNorm2d(n8)
        self.conv3, self.head = conv(n8, n8), Head(n8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(F.relu(self.norm1(self.conv1(x))))
        return self.head(F.relu(self.conv3(F.relu(self.norm2(x)))))  # type: ignore[no-any-return]


class Moves(nn.Module):
    """Channels last for a linear layer, spatial slices, padding, means of one dimension, swish by hand, numbers added and multiplied."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        n8, n12 = 8 * times, 12 * times
        self.conv1, self.point, self.conv2, self.fc = conv_bn(3, n8), nn.Linear(n8, n12), conv_bn(n12, n8), nn.Linear(n8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)[:, :, 1:, ::2]
        x = self.point(x.permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2)
        x = F.pad(x * torch.sigmoid(x), (1, 1, 0, 1))
        x = self.conv2(x) * 0.5 - 0.1
        return self.fc(x.mean(3, keepdim=True).amax(dim=2).squeeze(-1))  # type: ignore[no-any-return]


def bottleneck_50() -> nn.Module:
    """ResNet-50 as ImageNet has it, for 224 x 224 pixels."""
    net = OptionB(bottleneck=True, widths=(64,), blocks=1)
    stages, inputs = [], 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stages.append(Residual(inputs, width, 2 if stage and not block else 1, bottleneck=True))
            inputs = 4 * width
    net.stem = nn.Sequential(conv(3, 64, 7, stride=2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    net.stages, net.head = nn.Sequential(*stages), Head(inputs, 1000)
    return net


NORM_KINDS = ("group", "instance", "plain-instance", "plain-batch", "untracked", "layer", "prelu", "beamish")
NETS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: build("resnet8", seed=0),
    "resnet8-mish": lambda: build("resnet8", activation="mish", seed=0),
    "resnet8-beamish": lambda: build("resnet8", activation="beamish", seed=0),
    "resnet20": lambda: build("resnet20", seed=0),
    **{f"chain-{way}": partial(Chain, way) for way in ("module", "size", "shape", "torch", "minus", "permute")},
    "chain-bare": lambda: Chain(norm=False),
    "chain-sigmoid": lambda: Chain(norm=False, act=nn.Sigmoid, padding=0),
    "option-b": OptionB,
    "bottleneck": lambda: OptionB(bottleneck=True, widths=(4, 6)),
    "pre-activation": PreActivation,
    "fire": Fire,
    "dense": Dense,
    "inception": Inception,
    "mobilenet-v2": MobileNetV2,
    "squeeze-excite": SqueezeExcite,
    "grouped": Grouped,
    "parts": Parts,
    "heads": Heads,
    "up-and-down": UpAndDown,
    **{f"norm-{kind}": partial(Normed, kind) for kind in NORM_KINDS},
    "moves": Moves,
}


def network(name: str) -> nn.Module:
    """The factory of a user, for checkpoints."""
    return NETS[name]()


# One of each kind, for tests that need not see every spelling of a flatten or every activation.
KINDS = sorted(
    NETS.keys() - {f"chain-{way}" for way in ("size", "shape", "torch", "permute")} - {"resnet20", "resnet8-mish", "norm-instance"}
)


def lively(net: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The network with every parameter and running statistic away from what constructors give, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                scale = 1.0 if tensor.dim() < 2 else (2.0 / tensor[0].numel()) ** 0.5
                value = torch.randn(tensor.shape, generator=generator) * scale
                tensor.data = (0.5 + value.abs() if name in ("running_var", "log_alpha") else value).to(dtype)
    return net.to(dtype).eval()


def images(count: int, seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_plan(grouping: Grouping, seed: int, only: str | None = None) -> Plan:
    """A plan that drops random channels of every group, or of one: from a single channel to all but one."""
    generator = np.random.default_rng(seed)
    keep = {}
    for group in grouping.groups:
        count = group.channels if only not in (None, group.name) else int(generator.integers(1, group.channels))
        keep[group.name] = tuple(sorted(generator.permutation(group.channels)[:count].tolist()))
    return make_plan(grouping, CostModel(grouping), keep, criterion="random", allocation="none", align=1, target=1.0)


def logits(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = net(x)
    return torch.cat(list(out.values()), 1) if isinstance(out, dict) else out
