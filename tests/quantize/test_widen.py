"""Zero channels change neither what is computed nor what is counted."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from gleanet.measure import graph_cost, predict
from gleanet.measure.graph import PADDED
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.widen import widen
from tests.tiny_onnx import convnet, floats, save

FILE = Path("m.onnx")
X = floats(64)


def inner_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in model.graph.initializer if t.name.endswith(".weight")}


def test_only_what_nobody_else_reads_is_widened() -> None:
    """a feeds an addition as well, so its outputs stay; the first convolution gets a fourth input channel."""
    wide = widen(prepare(convnet(), FILE), min_max(prepare(convnet(), FILE), [X], file=FILE))
    assert wide.before == {"a": (8, 3)}
    assert inner_shapes(wide.model)["a.weight"] == (8, 4, 3, 3)
    chain = convnet(residual=False)
    wide = widen(prepare(chain, FILE), min_max(prepare(chain, FILE), [X], file=FILE))
    assert wide.before == {"a": (8, 3), "b": (8, 8), "c": (16, 8)}
    assert inner_shapes(wide.model) == {
        "a.weight": (16, 4, 3, 3),
        "b.weight": (16, 16, 3, 3),
        "c.weight": (16, 16, 3, 3),
        "d.weight": (4, 16),
    }
    onnx.checker.check_model(wide.model, full_check=True)


@pytest.mark.parametrize("pixels", [False, True])
def test_the_widened_float_model_computes_the_same(pixels: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, X.shape, dtype=np.uint8) if pixels else X
    model = convnet(residual=False, pixels=pixels)
    prepared = prepare(model, FILE)
    wide = widen(prepared, min_max(prepared, [x], file=FILE))
    found = predict(save(wide.model, tmp_path / "w.onnx"), x)
    assert np.abs(found - predict(save(model, tmp_path / "m.onnx"), x)).max() < 1e-5


@pytest.mark.parametrize("per_channel", ["", "-channel"])
def test_quantized_and_padded_computes_and_costs_what_the_plain_one_does(per_channel: str, tmp_path: Path) -> None:
    model = convnet(residual=False)
    prepared = prepare(model, FILE)
    ranges = min_max(prepared, [X], file=FILE)
    plain, wide = (
        save(insert(prepared, ranges, METHODS[f"u8s8{per_channel}-head{pad}"], model), tmp_path / f"{pad}.onnx") for pad in ("", "-pad")
    )
    step = np.ptp(predict(plain, X)) / 255
    assert np.abs(predict(plain, X) - predict(wide, X)).max() <= step
    assert graph_cost(wide) == graph_cost(plain) == graph_cost(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("claim", ["[1, 1]", "[1, 8]", "[8, 1]", "[9, 8]", "[0, 0]"])
def test_a_false_claim_of_padding_is_not_believed(claim: str, tmp_path: Path) -> None:
    honest = graph_cost(save(convnet(), tmp_path / "a.onnx"))
    assert graph_cost(save(convnet(metadata={PADDED: f'{{"b": {claim}}}'}), tmp_path / "b.onnx")) == honest
