"""What tests/train/test_distributed.py starts with torchrun: each process writes what it found to FOLDER/RANK.pt, then all of them carry
out a command.

torchrun --nproc-per-node 2 -m tests.train.together FOLDER train resnet8 --data digits
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gleanet.cli.app import main as gleanet
from gleanet.core.errors import ModelError
from gleanet.core.launch import launch
from gleanet.core.progress import SILENT
from gleanet.core.records import Preprocess
from gleanet.prune import FCR
from gleanet.train import Recipe, fit
from gleanet.train.distributed import connect
from gleanet.train.rangetest import sweep
from gleanet.train.syncnorm import shared_statistics
from gleanet.train.team import Team
from tests.train.tiny import images, net

PIXELS = Preprocess()
# 97 images in batches of 32: the last batch is a single image, of which one of two processes has nothing
RECIPE = Recipe(epochs=2, batch_size=32, lr=0.05, distill=0.5, label_smoothing=0.1, flip=False)
STEPS = 8
Found = dict[str, Any]


class Double(nn.Module):
    """[N, 3, 8, 8] -> [N, 4] in float64, so that only mistakes make a difference, and no rounding."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner = net(seed).double()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.double())
        return y


def train(team: Team, **changes: Any) -> Found:
    """A whole training: weights and statistics, curve."""
    model = Double(1)
    arguments: dict[str, Any] = {"preprocess": PIXELS, "seed": 3, "teacher": Double(2), "evaluate": images(50, 1), **changes}
    _, curve = fit(model, images(97), RECIPE, team=team, **arguments)
    points = [(point.step, point.loss, point.accuracy) for point in curve.points]
    return {"weights": model.state_dict(), "points": points, "plain": all("forward" not in m.__dict__ for m in model.modules())}


def prune(team: Team, options: Found) -> Found:
    """A training in which FCR prunes."""
    model = Double(3)
    fcr = FCR(model, torch.zeros(1, 3, 8, 8), flops=0.5, total_steps=STEPS, align=1, processes=team.processes, **options)
    kept = []

    def hook(step: int) -> None:
        fcr.step()
        kept.append([part.keep for part in fcr.plan.groups])

    fit(model, images(97), RECIPE, preprocess=PIXELS, seed=0, after_step=hook, along=fcr, team=team)
    return {"kept": kept, "weights": fcr.finish().state_dict()}


PRUNING: dict[str, Found] = {
    "features": {"recycle": "features", "images": 75},  # ends in the middle of the third batch
    "weights": {"recycle": "weights", "interval": 2, "criterion": "l2"},
    "taylor": {"recycle": "weights", "interval": 2, "criterion": "taylor"},
    "activation": {"recycle": "none", "interval": 3, "criterion": "activation"},
}


def normalise(own: slice, shared: bool, x: Tensor, target: Tensor, norm: nn.Module) -> Found:
    """Output, gradients and statistics of a norm on some rows of a batch."""
    x = x[own].clone().requires_grad_()
    if shared:
        with shared_statistics(norm):
            y = norm(x)
    else:
        y = norm(x)
    (y * target[own]).sum().backward()
    grads = {f"d{name}": parameter.grad for name, parameter in norm.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, **grads, **{name: buffer.clone() for name, buffer in norm.named_buffers()}}


NORMS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "2d": lambda: (nn.BatchNorm2d(5).double(), torch.randn(7, 5, 3, 4, dtype=torch.float64)),
    "2d channels last": lambda: (nn.BatchNorm2d(5).double(), torch.randn(7, 5, 3, 4).double().to(memory_format=torch.channels_last)),
    "1d, cumulative, far from zero": lambda: (nn.BatchNorm1d(4, momentum=None).double(), 1e3 + torch.randn(6, 4).double()),
    "3d, no affine": lambda: (nn.BatchNorm3d(2, affine=False).double(), torch.randn(5, 2, 2, 3, 2).double()),
    "no statistics": lambda: (nn.BatchNorm2d(3, track_running_stats=False).double(), torch.randn(3, 3, 2, 2).double()),
    "one image": lambda: (nn.BatchNorm2d(3).double(), torch.randn(1, 3, 4, 4).double()),
    "float32": lambda: (nn.BatchNorm2d(6), torch.randn(9, 6, 5, 5)),
    "bfloat16": lambda: (nn.BatchNorm2d(6), torch.randn(9, 6, 5, 5).bfloat16()),
}


def norms(rank: int, size: int) -> dict[str, Found]:
    found = {}
    for name, make in NORMS.items():
        torch.manual_seed(0)
        norm, x = make()
        target = torch.randn_like(x)
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
        found[name] = normalise(slice(rank, None, size), size > 1, x, target, norm)
    return found


def everything(team: Team) -> Found:
    return {
        "train": train(team),
        "norms": norms(team.rank, team.size),
        "range test": sweep(Double(1), images(97), RECIPE, preprocess=PIXELS, seed=0, teacher=Double(2), team=team, progress=SILENT),
        **{name: prune(team, options) for name, options in PRUNING.items()},
    }


def unused(team: Team) -> str:
    """What is said of a network with a parameter that its output does not depend on."""
    model = Double(1)
    model.inner.register_parameter("spare", nn.Parameter(torch.zeros(1)))
    try:
        fit(model, images(97), RECIPE, preprocess=PIXELS, seed=0, team=team)
    except ModelError as error:
        return str(error)
    return ""


def main() -> int:
    torch.set_num_threads(1)
    folder, here = Path(sys.argv[1]), launch()
    assert here is not None
    team: Team = connect("cpu", here)
    found = everything(team)
    found["shared"] = team.shared(lambda: f"made by {team.rank}")
    found["unused"] = unused(team)
    found["any"] = team.any(team.rank == 1, False)
    torch.save(found, folder / f"{team.rank}.pt")
    return gleanet(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
