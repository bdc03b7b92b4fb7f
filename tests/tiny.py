"""Small networks for tests, with batch-norm statistics that are not the trivial ones, so that folding has something to do."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """conv-bn-act, one residual block that halves the image and doubles the channels with an option-A shortcut, pool, linear."""

    def __init__(self, channels: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.act2 = nn.ReLU()
        self.conv3 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * channels)
        self.act3 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2 * channels, classes)
        self.missing = channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(x)))))
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        logits: Tensor = self.linear(torch.flatten(self.pool(self.act3(y + short)), 1))
        return logits


def residual(seed: int = 0, channels: int = 8, classes: int = 4) -> nn.Module:
    """[N, 3, H, W] -> [N, classes], H and W even."""
    return _lively(Residual(channels, classes), seed)


def chain(seed: int = 0, channels: int = 8, classes: int = 4, size: int = 8) -> nn.Module:
    """conv-bn-relu-maxpool twice, then flatten and linear: [N, 3, size, size] -> [N, classes]."""
    net = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * (size // 4) ** 2, classes),
    )
    return _lively(net, seed)


def images(n: int, size: int = 8, seed: int = 0) -> Tensor:
    """[n, 3, size, size] float32, standard normal."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _lively(net: nn.Module, seed: int) -> nn.Module:
    """Seeded weights, and batch-norms whose statistics, scales and shifts all differ from 0 and 1; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0.0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.0, 0.3, generator=generator)
                module.running_mean.normal_(0.0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return net.eval()
