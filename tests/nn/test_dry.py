"""A run for shapes alone gives the shapes of the real run, and leaves no trace."""

import pytest
import torch
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

from gleanet.core.errors import ModelError
from gleanet.nn import BeaMish, build, cost
from gleanet.nn.dry import shapes_only
from gleanet.nn.trace import trace
from tests.prune.nets import NETS, images

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "strided": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 7, 8)),
    "dilated": (nn.Conv2d(3, 4, (3, 2), dilation=(2, 3), padding=(1, 0)), (2, 3, 9, 9)),
    "same": (nn.Conv2d(3, 4, 3, padding="same", dilation=2), (2, 3, 9, 9)),
    "valid": (nn.Conv2d(3, 4, 4, padding="valid"), (2, 3, 9, 9)),
    "reflected": (nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"), (2, 3, 9, 9)),
    "grouped": (nn.Conv2d(4, 8, 3, groups=2, bias=False), (2, 4, 9, 9)),
    "1d": (nn.Conv1d(3, 4, 5, stride=3), (2, 3, 17)),
    "3d": (nn.Conv3d(3, 4, 2, stride=2), (2, 3, 5, 6, 7)),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1, dilation=2), (2, 3, 5, 6)),
    "grouped transposed": (nn.ConvTranspose2d(4, 8, 2, stride=2, groups=4), (2, 4, 5, 6)),
    "one image": (nn.Conv2d(3, 4, 3), (3, 9, 9)),
    "tokens": (nn.Linear(5, 7), (2, 3, 5)),
    "batch-norm": (nn.BatchNorm2d(3), (2, 3, 4, 4)),
    "group-norm": (nn.GroupNorm(2, 4), (2, 4, 3, 3)),
    "beamish": (BeaMish(learnable=True, channels=3), (2, 3, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_shape_that_it_gives(name: str) -> None:
    layer, shape = LAYERS[name]
    with torch.no_grad():
        real = layer.eval()(torch.ones(shape))
        with shapes_only(layer):
            dry = layer(torch.ones(shape))
    assert (dry.shape, dry.dtype) == (real.shape, real.dtype)


@pytest.mark.parametrize("name", [*NETS, "resnet50", "vgg16_bn_cifar", "mobilenet_v2", "squeezenet1_1", "densenet40"])
def test_every_value_of_a_network_has_its_shape(name: str) -> None:
    net, x = (NETS[name](), images(2, dtype=torch.float32)) if name in NETS else (build(name), torch.zeros(2, 3, 64, 64))
    traced = trace(net.eval(), x)
    found = []
    for _ in range(2):
        found.append([getattr(node.meta.get("tensor_meta"), "shape", None) for node in traced.graph.nodes])
        with torch.no_grad():
            ShapeProp(traced).propagate(x[:1])  # now for real
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (1, 2, 9, 9)),
        (nn.Conv2d(3, 4, 3), (1, 3, 2, 2)),
        (nn.Linear(5, 7), (1, 4)),
        (nn.BatchNorm2d(3), (1, 4, 3, 3)),
        (nn.GroupNorm(2, 4), (1, 6, 3, 3)),
    ],
)
def test_what_does_not_fit_fails_as_ever(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer.eval()
    with pytest.raises(RuntimeError) as real:
        layer(torch.zeros(shape))
    with shapes_only(layer), pytest.raises(RuntimeError) as dry:
        layer(torch.zeros(shape))
    assert str(dry.value) == str(real.value)


def test_a_layer_whose_tensors_disagree_fails() -> None:
    """What a wrong removal would leave."""
    conv = nn.Conv2d(3, 4, 1)
    conv.bias = nn.Parameter(torch.zeros(3))
    with shapes_only(conv), pytest.raises(RuntimeError, match="bias"):
        conv(torch.zeros(1, 3, 2, 2))


class Own(nn.Conv2d):
    """A user's subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(1)


def test_a_subclass_with_its_own_forward_runs() -> None:
    with shapes_only(layer := Own(3, 4, 1)), torch.no_grad():
        assert layer(torch.ones(1, 3, 2, 2)).shape == (1, 2, 2)


def test_everything_is_as_it_was_afterwards() -> None:
    net = build("resnet8", seed=0).eval()
    x, keys = images(2, dtype=torch.float32), {path: set(module.__dict__) for path, module in net.named_modules()}
    before = net(x)
    with shapes_only(net):
        assert not torch.equal(net(x), before)  # nothing is computed inside
    assert torch.equal(net(x), before)
    assert {path: set(module.__dict__) for path, module in net.named_modules()} == keys
    with pytest.raises(ModelError, match="does not accept"):
        cost(net, torch.zeros(1, 1, 8, 8))
    assert torch.equal(net(x), before)
