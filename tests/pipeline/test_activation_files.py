"""From a network with Bea-Mish to its 8-bit file, by way of pruning: every step computes what the step before does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from gleanet.core.records import Preprocess
from gleanet.core.stats import sqnr_db
from gleanet.data import load
from gleanet.export import export_onnx
from gleanet.measure import predict
from gleanet.measure.accuracy import normalise
from gleanet.nn import BeaMish, build, cost, replace_activations
from gleanet.prune import prune
from gleanet.quantize import quantize

DATA = load("digits")
PREPROCESS = Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3)
CALIBRATION, TEST = (normalise(part.images[:256], PREPROCESS) for part in (DATA.train, DATA.test))


def kinds(file: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(file)).graph.node]


@pytest.mark.parametrize("factors", ["fixed", pytest.param("channels", marks=pytest.mark.slow)])
def test_a_pruned_beamish_network_is_exported_exactly_and_quantized(factors: str, tmp_path: Path) -> None:
    net = build("resnet8", activation="beamish(alpha=0.9,beta=1.5)", seed=0).eval()
    image = torch.from_numpy(CALIBRATION[:1])
    if factors == "channels":
        net = replace_activations(net, lambda c: BeaMish(0.9, 1.3, learnable=True, channels=c), example_input=image).eval()
    small = prune(net, image, flops=0.5, criterion="l2", calibration=[torch.from_numpy(CALIBRATION)])
    assert cost(small, image).macs <= 0.55 * cost(net, image).macs
    with torch.no_grad():
        logits = small(torch.from_numpy(TEST)).numpy()
    written = export_onnx(small, image, tmp_path / "small.onnx", check=TEST)
    assert np.abs(predict(written.path, TEST) - logits).max() <= 1e-5 * max(1.0, np.abs(logits).max())
    assert kinds(written.path).count("Exp") == 7
    assert "Softplus" not in kinds(written.path)

    batches = [(TEST, DATA.test.labels[: len(TEST)])]
    method = "u8s8-7bit-channel"  # sums cannot saturate, on no machine
    choice = quantize(
        written.path, calibration=[CALIBRATION], evaluate=batches, method=method, max_drop=100, out=tmp_path / "int8.onnx", batches=(1,)
    )
    assert choice.path is not None
    found = kinds(choice.path)
    assert found.count("GatherElements") == (0 if factors == "channels" else 7)
    assert found.count("Exp") == (7 if factors == "channels" else 0)
    assert sqnr_db(logits, predict(choice.path, TEST)) > 15
