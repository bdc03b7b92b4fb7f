"""Data-parallel training: the processes that torchrun has started train one network, each on its share of every batch.

Lightning Fabric finds the devices, connects the processes (NCCL on GPUs, gloo else) and wraps the network in torch's
``DistributedDataParallel``. Imported under torchrun only, so that the package need not be installed otherwise.
"""

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from gleanet.core.errors import ModelError, PeerLost, SettingsError
from gleanet.core.interrupt import SIGNALS
from gleanet.core.launch import Launch
from gleanet.core.settings import Device
from gleanet.train.syncnorm import shared_statistics

T = TypeVar("T")

# A process that dies shuts its connections, and the others notice at once; so this is for machines that fall silent. In the meantime they
# may have to wait for what the first process does alone, such as the refit of FCR.
TIMEOUT = timedelta(minutes=20)
LOST = "another process of this training has died or cannot be reached"
_UNUSED = "Expected to have finished reduction in the prior iteration"  # what DistributedDataParallel says of a gradient that never came
_NETWORK = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|timed? ?out|socket", re.IGNORECASE)


class Together:
    """A :class:`gleanet.train.team.Team` of several processes; from :func:`connect`."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.size, self.device = fabric.global_rank, fabric.world_size, fabric.device
        self.processes = dist.group.WORLD

    @contextmanager
    def together(self, model: nn.Module) -> Iterator[nn.Module]:
        norms = {id(buffer) for module in model.modules() if isinstance(module, _BatchNorm) for buffer in module.buffers(recurse=False)}
        with shared_statistics(model), self.guard():
            wrapped = self._fabric.setup_module(model)
            parallel = next(module for module in wrapped.modules() if isinstance(module, DistributedDataParallel))
            # the statistics of norms are equal everywhere as it is; other buffers follow the first process, which writes the checkpoints
            parallel.broadcast_buffers = any(id(buffer) not in norms for buffer in model.buffers())
            if self.device.type == "cpu":
                parallel.register_comm_hook(None, lambda _, bucket: _mean_in_order(bucket.buffer()))
            yield wrapped

    def backward(self, value: Tensor) -> None:
        self._fabric.backward(value)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        found = torch.tensor(flags, dtype=torch.uint8)
        with self.guard():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in found)

    def total(self, values: Tensor) -> Tensor:
        sums = values.double().cpu()
        with self.guard():
            dist.all_reduce(sums)
        return sums

    def shared(self, make: Callable[[], T]) -> T:
        made = make() if self.rank == 0 else None
        with self.guard():
            found: T = self._fabric.broadcast(made)  # type: ignore[assignment]
        return found

    @contextmanager
    def guard(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or _NETWORK.search(str(error)):
                raise PeerLost(LOST) from error
            if _UNUSED in str(error):
                raise ModelError(
                    "some parameters of the network take no part in its output, so several processes cannot train it together: "
                    "freeze them (requires_grad_(False)), or train in one process"
                ) from error
            raise


def connect(device: Device, launch: Launch, *, timeout: timedelta = TIMEOUT) -> Together:
    """Wait for the other processes that torchrun has started, and be one of them. In the main thread, from then on Ctrl-C, SIGHUP and
    SIGTERM, which torchrun sends where another process has died, raise one error, once.

    Args:
        device: as in ``gleanet train --device``; on GPUs each process takes the one of its local rank.
        launch: which process this is.
        timeout: how long to wait for another process before it counts as lost.

    Raises:
        SettingsError: there are fewer GPUs than processes.
        PeerLost: the others do not come.
    """
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" or gpus:
        if launch.local_size > gpus:
            fewer = f"--nproc-per-node {gpus}, or " if gpus else ""
            raise SettingsError(
                f"torchrun has started {launch.local_size} processes and torch finds {gpus} CUDA GPUs here: use {fewer}--device cpu"
            )
        kind, backend = "cuda", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(launch.local_rank)
    else:
        kind, backend = "cpu", "gloo"
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), process_group_backend=backend, timeout=timeout)
    fabric = Fabric(accelerator=kind, devices=launch.local_size, num_nodes=launch.nodes, strategy=strategy)
    _end_once()
    try:
        fabric.launch()
    except (dist.DistError, RuntimeError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise PeerLost(f"the {launch.size} processes do not find each other at {where} ({str(error).splitlines()[0]})") from error
    return Together(fabric)


def _end_once() -> None:
    def end(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else PeerLost(f"{LOST}, or torchrun was stopped")

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)


def _mean_in_order(values: Tensor) -> "torch.futures.Future[Tensor]":
    """Mean of a bucket's gradients [M] over the processes, each element added up in the order of ranks wherever it lies in the bucket.

    Buckets are laid out anew after the first step, and the sums of an ordinary all-reduce depend on the layout in their last bits: a
    resumed training of three or more processes would not end with the same bytes. As much is sent as in an all-reduce.
    """
    size = dist.get_world_size()
    padded = torch.nn.functional.pad(values, (0, -len(values) % size))
    theirs = torch.empty_like(padded)
    dist.all_to_all_single(theirs, padded)
    own, *others = theirs.chunk(size)
    total = own.clone()
    for other in others:
        total += other
    total /= size
    parts = list(padded.chunk(size))
    dist.all_gather(parts, total)
    values.copy_(torch.cat(parts)[: len(values)])
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(values)
    return done
