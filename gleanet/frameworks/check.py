"""Is what an adapter computes right? Loss, logits and gradients against the float64 reference, under the framework's own convention."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gleanet.core.framework_entries import Check
from gleanet.frameworks import spec
from gleanet.frameworks.batches import Batches
from gleanet.frameworks.onnx_model import write_onnx
from gleanet.frameworks.spec import CONVENTIONS, Array, Convention, Weights

STEPS = 10
TOLERANCE = {"float32": 2e-5, "float64": 1e-9}
LOGITS = {"float32": 1e-4, "float64": 1e-9}
KNOWN = 1e-3  # the probe's gradients differ by 10 % and more between conventions, and by 1e-6 within one


class Reference:
    """The exact answers for one set of batches. Each convention is computed when it is first asked for."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.x = spec.normalised(batches.x[0])
        self.y = batches.y[0]
        self.initial = spec.initial_weights(self.x)
        self._gradients: dict[tuple[str, Convention], tuple[float, dict[str, Array]]] = {}
        self._losses: dict[Convention, list[float]] = {}

    @cached_property
    def probe(self) -> dict[str, Array]:
        """The weights that tell conventions apart."""
        return spec.probe_weights()

    @cached_property
    def logits(self) -> Array:
        """[64, 10] of the first batch with the initial weights."""
        return spec.forward(self.initial, self.x).logits

    def gradients(self, kind: str, convention: Convention) -> tuple[float, dict[str, Array]]:
        """Loss and gradients of the first batch with the weights ``initial`` or ``probe``."""
        if (kind, convention) not in self._gradients:
            weights: Weights = self.initial if kind == "initial" else self.probe
            self._gradients[kind, convention] = spec.loss_and_gradients(weights, self.x, self.y, convention)
        return self._gradients[kind, convention]

    def losses(self, convention: Convention) -> list[float]:
        """Loss before each of the first STEPS steps from the initial weights."""
        if convention not in self._losses:
            at = [step % len(self.batches.x) for step in range(STEPS)]
            self._losses[convention] = spec.losses(self.initial, spec.normalised(self.batches.x[at]), self.batches.y[at], convention)
        return self._losses[convention]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write what adapters read; returns the entries of their job that name the files."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "batches.npz", x=self.batches.x, y=self.batches.y)
        np.savez(folder / "initial.npz", **self.initial)  # type: ignore[arg-type]
        np.savez(folder / "probe.npz", **self.probe)  # type: ignore[arg-type]
        write_onnx(self.initial, folder / "model.onnx")
        return {
            "batches": str(folder.absolute() / "batches.npz"),
            "weights": {kind: str(folder.absolute() / f"{kind}.npz") for kind in ("initial", "probe")},
            "model": str(folder.absolute() / "model.onnx"),
        }


def judge(reference: Reference, answer: Mapping[str, Any], arrays: Path, dtype: str) -> Check:
    """The verdict about one adapter's answer to the task ``check``."""
    with np.load(arrays) as file:
        found = {name: file[name].astype(np.float64) for name in file.files}
    logits_error = relative_error(found["logits"], reference.logits)
    wrong = "" if logits_error <= LOGITS[dtype] else f"logits differ by {logits_error:.1e}"
    if "losses" not in answer:
        return Check(dtype, logits_error, wrong or "right")
    convention = convention_of(reference, found)
    exact_loss, exact = reference.gradients("initial", convention or Convention())
    worst, error = worst_of(found, exact, "initial/")
    loss_error = abs(float(answer["loss_initial"]) - exact_loss) / exact_loss
    losses = tuple(float(loss) for loss in answer["losses"])
    if not wrong and convention is None:
        wrong = "its gradients follow no known convention for ties and ReLU at 0"
    if not wrong and not error <= TOLERANCE[dtype]:  # also where the error is not a number
        wrong = f"the gradient of {worst} differs by {error:.1e}"
    return Check(
        dtype=dtype,
        logits_error=logits_error,
        verdict=wrong or "right",
        ties=convention.ties if convention else "unknown",
        relu_at_zero=convention.relu_at_zero if convention else None,
        gradient_error=_finite(error),
        gradient_error_float32=_finite(error) if dtype == "float32" else None,
        worst=worst,
        loss_error=_finite(loss_error),
        losses=losses,
        loss_drift=_finite(abs(losses[-1] - reference.losses(convention or Convention())[len(losses) - 1])),
    )


def convention_of(reference: Reference, found: Mapping[str, Array]) -> Convention | None:
    """The convention whose reference the gradients with the probing weights agree with; None where none does.

    No gradients can agree with two: on the probe, conventions are further apart than twice KNOWN.
    """
    return next((each for each in CONVENTIONS if worst_of(found, reference.gradients("probe", each)[1], "probe/")[1] <= KNOWN), None)


def worst_of(found: Mapping[str, Array], exact: Mapping[str, Array], prefix: str) -> tuple[str, float]:
    """The tensor with the largest relative error, and that error; infinite where one is missing or has another shape."""
    errors = {name: relative_error(found.get(prefix + name), value) for name, value in exact.items()}
    name = max(errors, key=lambda each: errors[each])
    return name, errors[name]


def relative_error(found: NDArray[np.floating] | None, exact: Array) -> float:
    """max |found - exact| / max |exact|; infinite where shapes differ or a value is not finite."""
    if found is None or found.shape != exact.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else None
