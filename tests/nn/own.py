"""Networks as a user would bring them: plain modules of the user's own code, made by functions that ``build`` can import."""

from torch import Tensor, nn


class Chain(nn.Module):
    """conv-bn-relu, depthwise conv-bn-silu, flatten, linear. Input [N, 3, 8, 8]."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.SiLU()
        self.linear = nn.Linear(width * 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]


def chain(num_classes: int = 4) -> nn.Module:
    return Chain(num_classes)


def narrow_chain() -> nn.Module:
    return Chain(4, width=5)


def not_a_network() -> int:
    return 3


def broken() -> nn.Module:
    raise ValueError("first line\nsecond line")
