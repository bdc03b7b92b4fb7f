"""FCR under DistributedDataParallel, in two real processes that talk through gloo."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gleanet.nn import build
from gleanet.prune import FCR
from tests.prune.nets import Head, conv, images, lively, logits

CRITERIA = ("l2", "bn_scale", "taylor", "activation")
PROCESSES, BATCH, STEPS = 2, 8, 10


def per_image() -> nn.Module:
    """Norms that look at one image at a time: half of a batch in each of two processes is the batch."""
    net = nn.Sequential(
        conv(3, 8), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), conv(8, 12), nn.InstanceNorm2d(12, affine=True), nn.ReLU(), Head(12)
    )
    return lively(net).train()


def small_resnet() -> nn.Module:
    return build("resnet8", seed=0).double().train()


NETS = {"per-image": per_image, "resnet8": small_resnet}


def train(net: nn.Module, held: nn.Module, criterion: str, rank: int, processes: int) -> dict[str, Any]:
    """A loop of ten steps on this process's share of each batch; ``held`` is what FCR is given."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    fcr = FCR(held, images(1), flops=0.5, total_steps=STEPS, interval=2, phase=0.7, align=1, criterion=criterion, recycle="weights")
    kept = []
    for step in range(STEPS):
        x, y = images(BATCH, seed=step), torch.arange(BATCH) % 5
        optimizer.zero_grad()
        F.cross_entropy(net(x[rank::processes]), y[rank::processes]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fcr.step()
        kept.append([part.keep for part in fcr.plan.groups])
    small = fcr.finish().eval()
    exact = float((logits(small, images(4)) - logits(fcr.model.eval(), images(4))).abs().max())
    return {"kept": kept, "weights": {k: v.clone() for k, v in fcr.model.state_dict().items()}, "exact": exact}


def refitted(net: nn.Module, held: nn.Module, rank: int) -> dict[str, Any]:
    """The default form: each process keeps images of its own, and all take over what the first one makes of its."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    fcr = FCR(held, images(1), flops=0.5, total_steps=STEPS, images=12, align=1)
    for step in range(STEPS):
        optimizer.zero_grad()
        x, y = images(BATCH, seed=step), torch.arange(BATCH) % 5
        F.cross_entropy(net(x[rank::PROCESSES]), y[rank::PROCESSES]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fcr.step()
    small = fcr.finish().eval()
    exact = float((logits(small, images(4)) - logits(fcr.model.eval(), images(4))).abs().max())
    plan = {part.name: list(part.keep) for part in fcr.plan.groups}
    return {"kept": plan, "criterion": fcr.plan.criterion, "weights": {k: v.clone() for k, v in small.state_dict().items()}, "exact": exact}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    found = {}
    for name, make in NETS.items():
        for criterion in CRITERIA:
            for wrapped in (True, False):
                net = make()
                parallel = DistributedDataParallel(net)
                found[f"{name} {criterion} {wrapped}"] = train(parallel, parallel if wrapped else net, criterion, rank, PROCESSES)
    for name, make in NETS.items():
        parallel = DistributedDataParallel(make())
        found[f"{name} features"] = refitted(parallel, parallel, rank)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, args=(str(folder),), nprocs=PROCESSES)  # type: ignore[attr-defined,no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", NETS)
def test_all_processes_end_with_one_network(ranks: list[dict[str, Any]], name: str, criterion: str) -> None:
    """FCR given the wrapper. Plans at every step, and weights to the last bit; with batch-norm too, whose statistics differ."""
    first, second = (rank[f"{name} {criterion} True"] for rank in ranks)
    assert first["kept"] == second["kept"]
    parameters = [key for key in first["weights"] if not key.split(".")[-1].startswith(("running_", "num_batches"))]
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in parameters)
    assert first["exact"] <= 1e-12


@pytest.mark.parametrize("criterion", CRITERIA)
def test_two_processes_are_one_with_the_union_of_their_batches(ranks: list[dict[str, Any]], criterion: str) -> None:
    net = per_image()
    alone = train(net, net, criterion, 0, 1)
    together = ranks[0][f"per-image {criterion} True"]
    assert len({str(kept) for kept in alone["kept"]}) > 1 or criterion in ("l2", "bn_scale")  # the data moved the ranking
    assert together["kept"] == alone["kept"]
    assert largest_difference(together["weights"], alone["weights"]) < 1e-9


@pytest.mark.parametrize("criterion", ["l2", "bn_scale", "taylor"])
@pytest.mark.parametrize("name", NETS)
def test_the_inner_network_does_as_well_where_weights_and_gradients_decide(ranks: list[dict[str, Any]], name: str, criterion: str) -> None:
    inner, wrapped = (ranks[1][f"{name} {criterion} {which}"] for which in (False, True))
    assert inner["kept"] == wrapped["kept"]
    assert largest_difference(inner["weights"], wrapped["weights"]) < 1e-12


def test_activation_needs_the_wrapper(ranks: list[dict[str, Any]]) -> None:
    """Given the inner network, each process ranks by its own images."""
    first, second = (rank["resnet8 activation False"] for rank in ranks)
    assert first["kept"] != second["kept"]


@pytest.mark.parametrize("name", NETS)
def test_refitting_leaves_all_processes_with_one_network(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[f"{name} features"] for rank in ranks)
    assert first["kept"] == second["kept"]
    assert first["criterion"] == second["criterion"] == "residual"
    parameters = [key for key in first["weights"] if not key.split(".")[-1].startswith(("running_", "num_batches"))]
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in parameters)
    assert max(first["exact"], second["exact"]) <= 1e-12
