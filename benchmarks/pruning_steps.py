"""What each step of one-shot pruning brings: the default, and the default with one step taken away, on the same network and images.

    GLEANET_DATA=DATA python benchmarks/pruning_steps.py WEIGHTS_FOLDER

ResNet-20 on CIFAR-10 (JPEG q75), widths in blocks of 1, judged on the 10,000 test images. A step is taken away by putting another function
in its place for the time of one row, so the product has no switches for it. One file a row of (method, share of the MACs), as in
``pruning_oneshot.py``: what is there is not made again. Written to benchmarks/results/pruning_oneshot/steps.json.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pruning_oneshot import RESULTS, Store, case, ours, unpruned
from torch import fx

from gleanet.prune import Grouping, Plan
from gleanet.prune.residual import residual_scores

RECYCLE, PLAN = import_module("gleanet.prune.recycle"), import_module("gleanet.prune.plan")  # `gleanet.prune.plan` is the function
BUDGETS = (0.5, 0.3)
ALL_JOBS: Callable[..., dict[fx.Node, Any]] = RECYCLE._jobs


def lossy_jobs(chosen: Plan, grouping: Grouping, dense: dict[str, Any], modules: dict[str, Any]) -> dict[fx.Node, Any]:
    """Of the layers to refit only those that lost inputs themselves."""
    jobs = ALL_JOBS(chosen, grouping, dense, modules)
    return {node: job for node, job in jobs.items() if lost_inputs(dense[str(node.target)], modules[str(node.target)])}


def lost_inputs(before: Any, after: Any) -> bool:
    """Whether a layer reads fewer channels than before; weights are [out, in, ...]."""
    return bool(after.weight.shape[1] < before.weight.shape[1])


Changes = Mapping[tuple[Any, str], object]


@contextmanager
def replaced(changes: Changes) -> Iterator[None]:
    """Names of modules with other values, for a while."""
    with ExitStack() as stack:
        for (module, name), value in changes.items():
            stack.enter_context(patch.object(module, name, value))
        yield


PLAIN_SCORES: Changes = {(PLAN, "OBSERVING"): {**PLAN.OBSERVING, "residual": residual_scores}}  # that is, "local_residual"
ONE_SOLVE: Changes = {(RECYCLE, "_is_rectified"): lambda *_: False}
STEPS: dict[str, Changes] = {
    "the default": {},
    "errors not weighed by what they become at the outputs": PLAIN_SCORES,
    "no second solve before a ReLU": ONE_SOLVE,
    "no second solve, only layers that lost inputs": {**ONE_SOLVE, (RECYCLE, "_jobs"): lossy_jobs},
    "three second solves before a ReLU instead of one": {(RECYCLE, "OPEN_SOLVES"): 3},
    "16,384 rows a layer instead of 65,536": {(RECYCLE, "ROWS"): 16_384},
    "262,144 rows a layer instead of 65,536": {(RECYCLE, "ROWS"): 262_144},
}
NO_IMAGES: dict[str, dict[str, Any]] = {
    f"no images: l2, {allocation}, {how}": {"criterion": "l2", "allocation": allocation, "recycle": how, "calibration": None}
    for allocation in ("uniform", "global")
    for how in ("none", "similarity")
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with the public checkpoints")
    weights = parser.parse_args().weights
    store, case_ = Store(RESULTS / "steps.json"), case("resnet20", weights / "resnet20-jpeg.pt", "cifar10-jpeg")
    unpruned("resnet20", case_, store)
    for step, changes in STEPS.items():
        with replaced(changes):
            ours("resnet20", case_, store, BUDGETS, {step: {}})
    ours("resnet20", case_, store, (0.7, 0.5), NO_IMAGES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
