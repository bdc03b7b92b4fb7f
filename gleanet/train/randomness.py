"""Torch's global generators, used where layers draw from them (dropout), and put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def forked_random(device: torch.device) -> Iterator[None]:
    """Inside the block torch's global generators may be used; afterwards they are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_random(device: torch.device, seed: int, step: int, rank: int = 0) -> None:
    """Seed them from (seed, step, rank), so that a resumed training draws what an uninterrupted one draws, each process its own."""
    value = (seed * 1_000_003 + step + rank * 2**40) % 2**63
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)
