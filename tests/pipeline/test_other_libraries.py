"""Networks of torchvision, timm and transformers, where they are installed: pruned, removed exactly, exported, all by ``build``.

All pass with torch 2.13.0 (CPU), timm 1.0.31, transformers 5.24.0 and torchvision 0.28.0, whose own operators were declared by hand, since
its package of PyPI is built for CUDA. Beside a torch of another build it cannot be imported, nor can timm, which imports it: both skip.
"""

import importlib
import sys
from pathlib import Path

import pytest
import torch

import gleanet as gn

pytestmark = pytest.mark.slow

FACTORIES = {
    "torchvision": """
import torchvision
def net(num_classes=10): return torchvision.models.{name}(num_classes=num_classes)
""",
    "timm": """
import timm
def net(num_classes=10): return timm.create_model("{name}", num_classes=num_classes)
""",
    "transformers": """
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification
class Logits(nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.embedder, self.encoder, self.pooler = whole.resnet.embedder, whole.resnet.encoder, whole.resnet.pooler
        self.classifier = whole.classifier
    def forward(self, x):
        x = self.embedder.pooler(self.embedder.embedder(x))
        for stage in self.encoder.stages:
            x = stage(x)
        return self.classifier(self.pooler(x))
def net(num_classes=10):
    sizes = dict(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 64, 128], embedding_size=16, layer_type="{name}")
    return Logits(ResNetForImageClassification(ResNetConfig(num_labels=num_classes, **sizes)))
""",
}
NETWORKS = [
    *(("torchvision", name) for name in ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "regnet_y_400mf")),
    *(
        ("timm", name)
        for name in ("resnet10t", "mobilenetv3_small_100", "efficientnet_lite0", "regnetx_002", "resnext26ts", "convnext_atto")
    ),
    ("transformers", "basic"),
]


@pytest.mark.parametrize(("library", "name"), NETWORKS, ids=["/".join(each) for each in NETWORKS])
def test_it_is_pruned_and_exported_as_a_network_of_ours(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        importlib.import_module(library)
    except Exception as error:  # not there, or there but broken: a torchvision for another torch raises RuntimeError
        pytest.skip(f"{library} cannot be imported: {error}")
    (tmp_path / "theirs.py").write_text(FACTORIES[library].replace("{name}", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    torch.manual_seed(0)
    net, x = gn.build("theirs:net", num_classes=10).eval(), torch.randn(2, 3, 64, 64)
    plan = gn.plan(net, x[:1], flops=0.7)
    small = gn.apply(net, plan)
    with torch.no_grad():
        assert torch.allclose(gn.zero(net, plan)(x), small(x), atol=1e-5)
    gn.save(small, "small.gleanet")
    with torch.no_grad():
        assert torch.equal(gn.load("small.gleanet", factory="theirs:net")(x), small.eval()(x))
    exported = gn.export_onnx(small, x[:1], "small.onnx", check=x.numpy())
    assert exported.max_abs_diff < 1e-4
