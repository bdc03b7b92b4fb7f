"""A convention is told from an error, and an error is found."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gleanet.frameworks.batches import Batches
from gleanet.frameworks.check import KNOWN, STEPS, Reference, judge, worst_of
from gleanet.frameworks.spec import CONVENTIONS, Array, Convention


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.RandomState(5)
    x = rng.randint(0, 256, (2, 8, 3, 32, 32)).astype(np.uint8)
    x[0, :4, :, :16, :16] = 255  # an overexposed corner, whose cells tie
    return Reference(Batches(x, rng.randint(0, 10, (2, 8)).astype(np.int32), "noise"))


def answered(reference: Reference, convention: Convention, folder: Path, **changes: Array) -> tuple[dict[str, Any], Path]:
    """What a perfect adapter in float32 with this convention would answer, with some arrays changed."""
    arrays = {"logits": reference.logits}
    for kind in ("initial", "probe"):
        arrays |= {f"{kind}/{name}": value for name, value in reference.gradients(kind, convention)[1].items()}
    single = {name: value.astype(np.float32) for name, value in {**arrays, **changes}.items()}
    np.savez(folder / "arrays.npz", **single)  # type: ignore[arg-type]
    answer = {"losses": reference.losses(convention), "loss_initial": reference.gradients("initial", convention)[0]}
    return answer, folder / "arrays.npz"


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_every_convention_is_recognised_and_right(reference: Reference, convention: Convention, tmp_path: Path) -> None:
    check = judge(reference, *answered(reference, convention, tmp_path), "float32")
    assert (check.ties, check.relu_at_zero, check.verdict) == (convention.ties, convention.relu_at_zero, "right")
    assert check.gradient_error is not None
    assert check.gradient_error < 1e-6
    assert check.loss_drift == 0.0
    assert len(check.losses) == STEPS


def test_no_gradients_agree_with_two_conventions(reference: Reference) -> None:
    for one, other in combinations(CONVENTIONS, 2):
        gradients = {f"probe/{name}": value for name, value in reference.gradients("probe", one)[1].items()}
        assert worst_of(gradients, reference.gradients("probe", other)[1], "probe/")[1] > 10 * KNOWN


def test_conventions_differ_on_real_ties_by_far_more_than_rounding(reference: Reference) -> None:
    first, every = (reference.gradients("initial", Convention(ties))[1]["conv1.w"] for ties in ("first", "all"))
    assert np.abs(first - every).max() / np.abs(first).max() > 1e-3


@pytest.mark.parametrize("name", ["conv1.w", "conv2.b", "fc1.w", "fc2.b"])
def test_a_gradient_that_is_a_little_off_is_wrong(reference: Reference, name: str, tmp_path: Path) -> None:
    exact = reference.gradients("initial", Convention())[1][name]
    off = {f"initial/{name}": exact * (1 + 1e-4)}
    check = judge(reference, *answered(reference, Convention(), tmp_path, **off), "float32")
    assert check.verdict.startswith(f"the gradient of {name} differs by 1.0e-04")
    assert check.gradient_error == pytest.approx(1e-4, rel=0.01)
    assert check.worst == name


def test_a_convention_used_only_sometimes_is_none(reference: Reference, tmp_path: Path) -> None:
    mixed = {"probe/conv1.w": reference.gradients("probe", Convention("all"))[1]["conv1.w"]}
    check = judge(reference, *answered(reference, Convention("first"), tmp_path, **mixed), "float32")
    assert (check.ties, check.relu_at_zero) == ("unknown", None)
    assert "no known convention" in check.verdict


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong_and_still_a_record(reference: Reference, bad: float, tmp_path: Path) -> None:
    exact = reference.gradients("initial", Convention())[1]["fc1.b"].copy()
    exact[3] = bad
    check = judge(reference, *answered(reference, Convention(), tmp_path, **{"initial/fc1.b": exact}), "float32")
    assert check.verdict.startswith("the gradient of fc1.b")
    assert check.gradient_error is None


def test_wrong_logits_and_wrong_shapes_are_wrong(reference: Reference, tmp_path: Path) -> None:
    check = judge(reference, *answered(reference, Convention(), tmp_path, logits=reference.logits + 0.01), "float32")
    assert check.verdict.startswith("logits differ by")
    turned = {"initial/fc2.w": reference.gradients("initial", Convention())[1]["fc2.w"].T}
    assert judge(reference, *answered(reference, Convention(), tmp_path, **turned), "float32").verdict != "right"


def test_a_runtime_that_only_infers_is_judged_by_its_logits(reference: Reference, tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", logits=reference.logits.astype(np.float32))
    check = judge(reference, {}, tmp_path / "arrays.npz", "float32")
    assert (check.verdict, check.gradient_error, check.losses) == ("right", None, ())
