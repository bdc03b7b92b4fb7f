"""Schedule, loss and parameter groups as pure functions."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gleanet.core.errors import SettingsError
from gleanet.nn import BeaMish, build, replace_activations
from gleanet.train import Recipe
from gleanet.train.recipe import distillation, learning_rate, loss, optimizer, parameter_groups, total_steps


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -1),
        ("epochs", math.nan),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("warmup", 1.1),
        ("label_smoothing", 1.0),
        ("distill", -0.1),
        ("temperature", 0.0),
    ],
)
def test_nonsense_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"recipe: {name} is {value}, it must be"):
        replace(Recipe(epochs=1), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("epochs", "steps"), [(0, 0), (0.001, 1), (0.5, 2), (1, 4), (2.5, 10)])
def test_steps(epochs: float, steps: int) -> None:
    assert total_steps(100, Recipe(epochs, batch_size=30)) == steps


def test_the_schedule_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 0.4, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([0.4 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == 0.4 == max(rates)
    assert rates[55] == pytest.approx(0.2)  # half way down
    assert rates[100] == pytest.approx(0.0, abs=1e-15)
    assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 1.0), (2, 0.5), (7, 1.0), (7, 0.0)])
def test_the_schedule_of_short_trainings_is_positive_and_reaches_its_peak(total: int, warmup: float) -> None:
    rates = [learning_rate(step, total, 0.4, warmup) for step in range(total)]
    assert all(0 < rate <= 0.4 for rate in rates)
    assert max(rates) == 0.4


def test_decay_is_on_convolution_and_linear_weights_only() -> None:
    net = replace_activations(build("resnet8", seed=0), BeaMish(learnable=True))
    net.get_parameter("conv1.weight").requires_grad_(False)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, free = parameter_groups(net, 5e-4)
    modules = [path for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear) and path != "conv1"]
    assert {names[id(p)] for p in decayed["params"]} == {f"{path}.weight" for path in modules}
    assert {names[id(p)] for p in decayed["params"] + free["params"]} == set(names.values()) - {"conv1.weight"}
    assert (decayed["weight_decay"], free["weight_decay"]) == (5e-4, 0.0)


def test_the_optimizer_is_nesterov_where_there_is_momentum() -> None:
    net = nn.Linear(2, 2)
    assert optimizer(net, Recipe(1), 0.1).defaults["nesterov"]
    assert not optimizer(net, Recipe(1, momentum=0.0), 0.1).defaults["nesterov"]


def some_logits(seed: int) -> torch.Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distillation_is_zero_exactly_when_student_equals_teacher() -> None:
    logits = some_logits(0).requires_grad_()
    value = distillation(logits, logits.detach(), 4.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == 0.0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-15
    assert float(distillation(logits.detach(), some_logits(1), 4.0)) > 0.01


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_equals_its_formula(temperature: float) -> None:
    student, teacher = some_logits(0), some_logits(1)
    p, q = F.softmax(teacher / temperature, 1), F.softmax(student / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum() / 6
    assert float(distillation(student, teacher, temperature)) == pytest.approx(float(expected))


def test_the_gradients_size_does_not_depend_on_a_high_temperature() -> None:
    """Hinton et al. 2015, section 2.1: in the limit of high temperatures, the gradient tends to (z - v) / K for zero-mean logits."""
    student, teacher = some_logits(0).requires_grad_(), some_logits(1)
    (distillation(student, teacher, 1000.0) * 6).backward()  # type: ignore[no-untyped-call]
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert student.grad is not None
    torch.testing.assert_close(student.grad, centred.detach() / 5, rtol=0.01, atol=1e-3)


def test_the_loss_mixes_labels_and_teacher() -> None:
    student, teacher, labels = some_logits(0), some_logits(1), torch.tensor([0, 1, 2, 3, 4, 0])

    def value(**settings: Any) -> float:
        return float(loss(student, labels, Recipe(1, **settings), teacher))

    hard, soft = float(F.cross_entropy(student, labels)), float(distillation(student, teacher, 2.0))
    assert value(distill=0.0) == hard
    assert value(distill=1.0, temperature=2.0) == soft
    assert value(distill=0.25, temperature=2.0) == pytest.approx(0.75 * hard + 0.25 * soft)
    smooth = 0.9 * hard - 0.1 * float(F.log_softmax(student, 1).mean())
    assert value(label_smoothing=0.1) == pytest.approx(smooth)
    assert float(loss(student, labels, Recipe(1, distill=0.5))) == hard
