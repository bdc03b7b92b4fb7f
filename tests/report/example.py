"""A made-up run with realistic figures: every optional part is there, the intervals are computed, nothing was measured."""

from dataclasses import replace

import numpy as np

from gleanet.core.answers import Answers, answers_of
from gleanet.core.records import (
    Accuracy,
    Change,
    Curve,
    CurvePoint,
    Interface,
    Latency,
    LatencyTable,
    LayerSensitivity,
    LayerTimes,
    LayerWidth,
    Measurement,
    Preprocess,
    RepairStep,
    Row,
    Run,
    TensorRange,
    Trial,
)
from gleanet.core.stats import paired_change, wilson
from gleanet.data.thumbnail import png

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
N = 10_000
BASE_CORRECT = 8801
RECOVERED_CORRECT = 8638


def example_run() -> Run:
    """``gleanet shrink resnet20 --flops 0.5 --epochs 3 --fair-baseline`` as it could have gone."""
    return Run(
        id="2026-11-23-resnet20-a1b2c3",
        command="gleanet shrink resnet20 --weights resnet20-12fca82f.th --data cifar10-jpeg --flops 0.5 --epochs 3 --fair-baseline",
        model="resnet20",
        status="done",
        started="2026-11-23T12:41:07+00:00",
        seconds=1874.2,
        settings={
            "model": "resnet20",
            "weights": "resnet20-12fca82f.th",
            "data": "cifar10-jpeg",
            "flops": 0.5,
            "criterion": "residual",
            "allocation": "global",
            "recycle": "features",
            "align": 8,
            "epochs": 3,
            "max_drop": 0.5,
            "seed": 0,
            "recovery": {"lr": 0.021, "batch_size": 128, "distill": 0.7, "temperature": 4.0, "augment": True},
        },
        versions={
            "gleanet": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "onnx": "1.23.2",
            "onnxruntime": "1.32.0",
            "numpy": "2.4.6",
        },
        machine={
            "cpu": "Intel(R) Xeon(R) Processor",
            "cores": 2,
            "memory_gb": 25.3,
            "os": "Debian GNU/Linux 12 (bookworm)",
            "isa": ["AVX2", "AVX512F", "AVX512_VNNI", "AVX_VNNI", "AMX_INT8"],
            "gpu": None,
        },
        data={"name": "cifar10-jpeg", "title": "CIFAR-10 (JPEG q75)", "train": 50_000, "test": N, "classes": 10},
        rows=_rows(),
        widths=_widths(),
        table=_times_of_widths(),
        trials=_trials(),
        ranges=(TensorRange("layer1.0.relu", 0.0, 9.25, {"percentile": (0.0, 4.5), "mse": (0.0, 5.125)}), TensorRange("input", -2.5, 2.75)),
        sensitivity=(LayerSensitivity("conv1", 21.5, 28.25), LayerSensitivity("layer1.0.conv1", 30.75, 26.5)),
        repair=(
            RepairStep("equalization", "u8s8+repair", -0.2, Change(-0.006, -0.009, -0.003, N)),
            RepairStep("bias correction", "u8s8+repair", 3.25, Change(-0.004, -0.007, -0.001, N)),
            RepairStep("layers in float", "u8s8+repair", 2.5, Change(-0.001, -0.003, 0.001, N), ("conv1",)),
        ),
        curves=_curves(),
        interface=Interface("model.int8.onnx", "input", "logits", "float32", (None, 3, 32, 32), preprocess=Preprocess(), classes=CLASSES),
        notes=(
            "Peak learning rate 0.021 from a range test over 100 steps.",
            "CIFAR-10 (JPEG q75) is not the original CIFAR-10: its accuracies are lower and must not be put beside published ones.",
        ),
    )


def example_answers(n: int = 1000, seed: int = 0) -> Answers:
    """Two files that are right on most images and differ on some; every changed image has a picture."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), n)
    before, after = (np.where(rng.random(n) < share, rng.integers(0, len(CLASSES), n), labels) for share in (0.1, 0.12))
    found = answers_of(("base.onnx", "model.int8.onnx"), before, after, labels, CLASSES)
    pixels = rng.integers(0, 256, (len(found.changed), 3, 32, 32), dtype=np.uint8)
    return replace(found, changed=tuple(replace(image, png=png(one)) for image, one in zip(found.changed, pixels, strict=True)))


def _paired(only_new: int, only_old: int, reference: int = BASE_CORRECT) -> tuple[Accuracy, Change]:
    """Accuracy and change of a network that is right on ``only_new`` images where the reference is wrong, and the reverse."""
    both, neither = reference - only_old, N - reference - only_new
    new = np.repeat([True, True, False, False], [both, only_new, only_old, neither])
    old = np.repeat([True, False, True, False], [both, only_new, only_old, neither])
    return wilson(both + only_new, N), paired_change(new, old)


def _times(one: float, sixty_four: float) -> tuple[Latency, ...]:
    return tuple(Latency(batch, 1, 300, ms, ms * 1.08) for batch, ms in ((1, one), (64, sixty_four)))


def _row(
    label: str, role: str, file: str, macs: int, params: int, size: int, moved: tuple[int, int] | None, ms: tuple[float, float]
) -> Row:
    accuracy, change = _paired(*moved) if moved else (wilson(BASE_CORRECT, N), None)
    speedup = {"1": 0.852 / ms[0], "64": 44.6 / ms[1]}
    return Row(label, role, Measurement(file, "onnxruntime", macs, params, size, accuracy, _times(*ms), change, None, speedup))


def _rows() -> tuple[Row, ...]:
    base, small = (40_551_808, 269_722, 1_095_213), (20_190_592, 166_330, 678_410)
    return (
        _row("as given", "given", "base.onnx", *base, (310, 1011), (0.851, 44.7)),
        _row("fine-tuned", "fine-tuned", "base.tuned.onnx", *base, None, (0.852, 44.6)),
        _row("pruned, one-shot", "one-shot", "model.oneshot.onnx", *small, (305, 1215), (0.561, 27.9)),
        _row("pruned, recovered", "recovered", "model.onnx", *small, (398, 561), (0.560, 27.8)),
        _row("quantized (U8S8)", "quantized", "model.int8.onnx", *small[:2], 224_871, (402, 608), (0.327, 15.2)),
    )


def _widths() -> tuple[LayerWidth, ...]:
    after = (8, 8, 8, 16, 24, 16, 40, 40, 24)
    stages = ((16, 32), (32, 16), (64, 8))
    layers = []
    for index, kept in enumerate(after):
        stage, block = divmod(index, 3)
        width, side = stages[stage]
        inputs = width if block or not stage else width // 2
        per_channel = inputs * 9 * side * side
        layers.append(LayerWidth(f"layer{stage + 1}.{block}.conv1", width, kept, per_channel * width, per_channel * kept))
    return tuple(layers)


def _times_of_widths() -> LatencyTable:
    """Two kinds of layers of a machine that computes 16 channels at a time, and takes half as long again beside a multiple of 8."""

    def kind(what: str, layers: tuple[str, ...], outs: tuple[int, ...], ins: tuple[int, ...], scale: float) -> LayerTimes:
        def ms(out: int, in_: int) -> float:
            return scale * (-(-out // 16)) * in_

        side = outs if len(outs) > 1 else ins
        odd = [(w, ins[-1]) if side is outs else (outs[-1], w) for w in (side[-1] // 2 - 1, side[-1] - 1)]
        grid = tuple(tuple(ms(out, in_) for in_ in ins) for out in outs)
        return LayerTimes(what, layers, outs, ins, grid, tuple((out, in_, 1.5 * ms(out, in_)) for out, in_ in odd))

    eights = tuple(range(8, 65, 8))
    return LatencyTable(
        "onnxruntime",
        1,
        1,
        300,
        0.851,
        (
            kind("conv 3x3, 8 x 8 pixels", ("layer3.0.conv2", "layer3.1.conv2", "layer3.2.conv2"), (64,), eights, 7e-5),
            kind("conv 3x3, 16 x 16 pixels", ("layer2.1.conv1", "layer2.2.conv1"), eights[:4], (32,), 3.6e-4),
            kind("linear", ("linear",), (10,), (64,), 3e-6),
        ),
    )


def _trial(
    method: str, verdict: str, reason: str, size: int, moved: tuple[int, int], ms: tuple[float, float], agreement: float, sqnr: float
) -> Trial:
    accuracy, change = _paired(*moved, RECOVERED_CORRECT)  # trials are judged against the float model they come from
    nodes = {"QLinearConv": 19, "QLinearAdd": 9, "Relu": 0, "QuantizeLinear": 1, "DequantizeLinear": 1}
    return Trial(method, verdict, reason, f"{method}.onnx", size, accuracy, change, agreement, sqnr, _times(*ms), nodes)


def _trials() -> tuple[Trial, ...]:
    return (
        _trial("s8s8 per tensor", "slower", "0.331 ms against 0.327 ms", 219_300, (70, 123), (0.331, 15.4), 0.973, 24.8),
        _trial("s8s8 per channel", "slower", "0.334 ms against 0.327 ms", 224_871, (62, 96), (0.334, 15.3), 0.978, 26.1),
        _trial("u8s8 per channel", "chosen", "fastest of 5 within 0.5 points", 224_871, (60, 103), (0.327, 15.2), 0.979, 26.4),
        _trial("u8s8 per tensor", "slower", "0.329 ms against 0.327 ms", 219_300, (71, 128), (0.329, 15.2), 0.972, 24.9),
        _trial("u8s8 7-bit per channel", "slower", "0.341 ms against 0.327 ms", 224_902, (88, 136), (0.341, 15.9), 0.968, 22.7),
        _trial("u8u8 per tensor", "too inaccurate", "−1.4 points, 0.5 allowed", 219_310, (110, 251), (0.402, 18.8), 0.951, 19.3),
        _trial("dynamic", "too inaccurate", "−0.9 points, 0.5 allowed", 221_015, (95, 186), (0.748, 39.0), 0.962, 21.0),
        Trial("s8s8 16-bit activations", "failed", "ONNX Runtime has no kernel for ConvInteger with 16-bit input"),
    )


def _curves() -> tuple[Curve, ...]:
    def curve(name: str, start: float, end: float, first_loss: float) -> Curve:
        points = []
        for step in range(0, 1174, 23):
            share = step / 1173
            lr = 0.021 * min(1.0, share / 0.05) * (0.5 + 0.5 * np.cos(np.pi * share))
            loss = first_loss * (0.45 + 0.55 * np.exp(-4 * share)) + 0.012 * np.sin(step * 1.7)
            value = None if step % 391 else start + (end - start) * (1 - np.exp(-3.2 * share)) / (1 - np.exp(-3.2))
            points.append(CurvePoint(round(3 * share, 3), step, float(lr), float(loss), None if value is None else float(value)))
        return Curve(name, tuple(points))

    return (curve("fine-tune the baseline", 0.81, BASE_CORRECT / N, 0.62), curve("recover the pruned network", 0.789, 0.864, 0.88))
