"""Saturated sums are found where they are, and nowhere else: the worst case of ONNX Runtime issue 5849."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from gleanet.core.host import machine
from gleanet.core.stats import sqnr_db
from gleanet.measure import predict
from gleanet.quantize.calibrate import min_max
from gleanet.quantize.evaluation import Block
from gleanet.quantize.insert import insert
from gleanet.quantize.methods import METHODS
from gleanet.quantize.prepare import prepare
from gleanet.quantize.saturation import quantized_layers, saturated_layers, strays, would_saturate
from tests.tiny_onnx import convnet, floats, model_of, save

FILE = Path("m.onnx")
X = np.abs(floats(32))
SAFE = {"AVX512_VNNI", "AVX_VNNI", "NEON"}


def worst_case(kernel: int = 3) -> onnx.ModelProto:
    """A tame convolution (large weights have no neighbours), then one whose weights all pull the same way at full strength."""
    rng = np.random.default_rng(0)
    tame = np.full((8, 3, 3, 3), 0.15, dtype=np.float32)
    tame[0] = 0
    tame[0, 0, 1, 1] = 1
    wild = np.sign(rng.standard_normal((8, 1, 1, 1))).astype(np.float32) * np.ones((8, 8, kernel, kernel), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "tame.weight"], ["tame"], name="tame", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["tame"], ["tame.relu"], name="tame.relu"),
        helper.make_node("Conv", ["tame.relu", "wild.weight"], ["wild"], name="wild"),
        helper.make_node("GlobalAveragePool", ["wild"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["y"], name="flat"),
    ]
    return model_of(nodes, {"tame.weight": tame, "wild.weight": wild}, ("n", 3, 8, 8), ("n", 8))


def quantized(model: onnx.ModelProto, name: str, folder: Path) -> Path:
    prepared = prepare(model, FILE)
    return save(insert(prepared, min_max(prepared, [X], file=FILE), METHODS[name], model), folder / f"{name}.onnx")


def sums_of_pairs(file: Path, layer: str, x: np.ndarray) -> float:
    """Largest sum of two neighbouring products anywhere in a layer, by plain loops over the integers of the file."""
    model = onnx.load(str(file))
    (found,) = [each for each in quantized_layers(model) if each.node.name == layer]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=found.input))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    integers = session.run([found.input], {"x": x})[0].astype(int)
    size, most = found.weights.shape[2], 0
    for image in integers:
        for top in range(image.shape[1] - size + 1):
            for left in range(image.shape[2] - size + 1):
                field = image[:, top : top + size, left : left + size].transpose(1, 2, 0).reshape(-1)
                for weights in found.weights:
                    products = field * weights.astype(int).transpose(1, 2, 0).reshape(-1)
                    products = np.append(products, 0) if len(products) % 2 else products
                    most = max(most, int(np.abs(products[::2] + products[1::2]).max()))
    return most


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_layer_that_would_saturate_is_named_and_seven_bits_cure_it(kernel: int, tmp_path: Path) -> None:
    file = quantized(worst_case(kernel), "u8s8", tmp_path)
    assert sums_of_pairs(file, "wild", X[:2]) > 2**15 - 1 >= sums_of_pairs(file, "tame", X[:2])
    assert would_saturate(file, X) == ("wild",)
    cured = quantized(worst_case(kernel), "u8s8-7bit", tmp_path)
    assert sums_of_pairs(cured, "wild", X[:2]) <= 2**15 - 1
    assert would_saturate(cured, X) == ()


def test_ordinary_weights_and_other_types_do_not_saturate(tmp_path: Path) -> None:
    assert would_saturate(quantized(convnet(), "u8s8-7bit", tmp_path), X) == ()
    for name in ("u8u8", "s8s8"):
        assert would_saturate(quantized(worst_case(), name, tmp_path), X) == ()


def test_pixels_are_normalised_as_the_file_says(tmp_path: Path) -> None:
    """Dark pixels make small activations; taken for numbers as they are, they would fill the range."""
    model = worst_case()
    helper.set_model_props(model, {"gleanet.preprocess": '{"mean": [0, 0, 0], "std": [1, 1, 1]}'})
    file, dark = quantized(model, "u8s8", tmp_path), np.full(X.shape, 25, dtype=np.uint8)
    assert would_saturate(file, dark) == would_saturate(file, (dark / 255).astype(np.float32)) == ()
    assert would_saturate(file, dark.astype(np.float32)) == ("wild",)


def found_here(file: Path, source: Path) -> tuple[str, ...] | None:
    block = Block(X, np.zeros(len(X), dtype=np.int64), predict(source, X))
    return None if strays(file, block, predict(file, X)) is None else saturated_layers(file, X)


def test_what_this_cpu_does_is_found_by_running_it(tmp_path: Path) -> None:
    """With VNNI nothing saturates, without it the wild layer does; 7-bit weights keep the logits on any CPU."""
    source = save(worst_case(), tmp_path / "m.onnx")
    wild, cured = (quantized(worst_case(), name, tmp_path) for name in ("u8s8", "u8s8-7bit"))
    safe = SAFE & set(machine()["isa"])
    assert found_here(wild, source) == (None if safe else ("wild",))
    assert found_here(cured, source) is None
    assert sqnr_db(predict(source, X), predict(cured, X)) > 25


def test_a_gap_between_the_runs_is_what_is_reported(tmp_path: Path) -> None:
    """Logits as a saturating CPU gives them: those of the file, cut at a half."""
    source = save(worst_case(), tmp_path / "m.onnx")
    file = quantized(worst_case(), "u8s8", tmp_path)
    good, block = predict(file, X), Block(X, np.zeros(len(X), dtype=np.int64), predict(source, X))
    cut = np.clip(good, -np.abs(good).max() / 2, np.abs(good).max() / 2)
    assert strays(file, block, good) is None or not SAFE & set(machine()["isa"])
    found = strays(file, block, cut)
    assert found is not None
    got, meant = found
    assert got < meant - 6
