"""The frozen records that stages hand to each other and that ``run.json`` holds: fractions in [0, 1], times in ms, sizes in bytes.

Everything here is plain data: JSON out with :func:`dumps`, JSON in with :func:`loads`, which checks every type.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gleanet.core.errors import NewerFormat, StoreError

FORMAT_VERSION = 1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Record = TypeVar("Record")


@dataclass(frozen=True)
class Preprocess:
    """How pixels become input: ``(pixel / 255 - mean) / std`` per channel. The JSON of the ONNX metadata key ``gleanet.preprocess``."""

    layout: str = "NCHW"
    color: str = "RGB"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True)
class Interface:
    """How to call an ONNX file: all that code in another language must know of it.

    Attributes:
        input, output: names of the tensors. ``dtype`` of the input is float32 or uint8.
        shape: of the input; None where a dimension is free.
        layout: NCHW or NHWC.
        gives: scores, or class where the output is the class itself.
        preprocess: how pixels become the input; None where they are the input, or the file does not say.
        classes: names in label order, empty where the file does not say.
    """

    file: str
    input: str
    output: str
    dtype: str
    shape: tuple[int | None, ...]
    layout: str = "NCHW"
    gives: str = "scores"
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy with its 95 % Wilson score interval (E. B. Wilson, 1927), fractions."""

    correct: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.correct / self.n


@dataclass(frozen=True)
class Change:
    """Paired difference of two accuracies on the same images, with a 95 % interval. Positive: better than the baseline."""

    delta: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Latency:
    """Time of one call with ``batch`` images on ``threads`` threads."""

    batch: int
    threads: int
    repeats: int
    p50_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Measurement:
    """What was measured of one file.

    ``macs``: multiply-accumulates of one image, from the graph; ``memory``: peak resident bytes that opening and running the file adds,
    at the largest batch that was timed; ``notes``: sentences on what could not be measured or says nothing.
    """

    file: str
    runtime: str
    macs: int
    params: int
    bytes: int
    accuracy: Accuracy | None = None
    latencies: tuple[Latency, ...] = ()
    change: Change | None = None
    agreement: float | None = None
    speedup: dict[str, float] = field(default_factory=dict)
    memory: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the result table. ``role`` is one of given, fine-tuned, one-shot, recovered, quantized."""

    label: str
    role: str
    measured: Measurement


@dataclass(frozen=True)
class LayerWidth:
    """Channels of one prunable group before and after, and the MACs of the layer that produces it."""

    layer: str
    before: int
    after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class LayerTimes:
    """Measured time of one kind of layer at several widths: median milliseconds of one call, without the cost of calling the runtime.

    Attributes:
        what: the layer in words: "conv 3x3, 16 x 16 pixels".
        layers: paths of the layers of this kind, one entry for each time one is called.
        outs, ins: the widths that were measured, ascending; the last of each is that of the network as given.
        ms: ``ms[i][j]`` is the time with ``outs[i]`` output and ``ins[j]`` input channels.
        odd: (outputs, inputs, ms) beside the grid: widths that no runtime likes, to show what they cost.
    """

    what: str
    layers: tuple[str, ...]
    outs: tuple[int, ...]
    ins: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]
    odd: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True)
class LatencyTable:
    """What each width of each layer costs on one machine, and what the whole network takes (``base_ms``, median of one call).

    ``form``: the form in which layers and network were timed: "float", or the name of a quantization method. ``machine``: the CPU, where
    the times are another machine's.
    """

    runtime: str
    threads: int
    batch: int
    repeats: int
    base_ms: float
    layers: tuple[LayerTimes, ...]
    form: str = "float"
    machine: str = ""


@dataclass(frozen=True)
class Point:
    """One delivered network of a frontier.

    Attributes:
        folder: where its files are, relative to the run folder: ``model.onnx``, ``model.int8.onnx``, ``model.gleanet``, ``plan.json``.
        dropped: names of the residual branches that are gone.
        widths: the groups of channels that are narrower than in the original network; those of dropped branches are not listed.
        method: quantization method of the delivered file, or "float".
        held_out: accuracy of the delivered file on training images that calibration did not see: points are chosen by it.
        held_out_change: the same against the original float file, paired.
        predicted_ms: of one call, from the table of times; None: not predicted.
        measured: of the delivered file on the test images; its change is against the original float file.
        recovered: fine-tuned after pruning.
    """

    folder: str
    dropped: tuple[str, ...]
    widths: tuple[LayerWidth, ...]
    method: str
    held_out: Accuracy
    held_out_change: Change
    measured: Measurement
    predicted_ms: float | None = None
    recovered: bool = False


@dataclass(frozen=True)
class Frontier:
    """Delivered networks from whole to small.

    Attributes:
        original: the float file of the network as given: speed-ups are against its time, changes against its accuracy.
        points: the first is the whole network, quantized and not pruned; then from slow to fast.
        chosen: position of the delivered one among the points.
        limit: what it was chosen by: max_drop (points of accuracy), speedup (at least), latency_ms (at most), or point (its position).
        value: the value of the limit.
        met: whether the chosen point meets the limit.
        machine: the CPU whose times these are, where it is another machine; empty: this one.
    """

    original: Measurement
    points: tuple[Point, ...]
    chosen: int
    limit: str
    value: float
    met: bool = True
    machine: str = ""


@dataclass(frozen=True)
class TensorRange:
    """What calibration saw of one tensor: its smallest and largest value, and the range that each calibrator takes of it."""

    tensor: str
    low: float
    high: float
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerSensitivity:
    """What quantizing one layer costs: SQNR of the logits, in dB, when it alone is quantized, and when all layers but this one are."""

    layer: str
    alone_db: float
    others_db: float


@dataclass(frozen=True)
class RepairStep:
    """One step towards the accuracy of the float model: what was done to which method's file, and what it gained.

    Attributes:
        step: equalization, bias correction, or layers in float.
        method: the method that was repaired.
        gained_db: SQNR of the logits after the step less that before it; a step that gained nothing was taken back.
        change: accuracy after the step against the float model.
        layers: those that were left in float.
    """

    step: str
    method: str
    gained_db: float
    change: Change | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One quantization method that was tried; ``reason`` says its verdict in words.

    Attributes:
        verdict: chosen, slower, too inaccurate, not proved, size only, impossible or failed; float for the given file in another runtime.
        nodes: operator -> how many, in the graph that the runtime executes.
        left_float: layers with weights that it executes in float.
        saturated: layers whose integer sums saturate on this CPU.
        memory: peak resident bytes that opening and running the file adds, at the largest batch that was timed.
        runtime: what ran it.
    """

    method: str
    verdict: str
    reason: str
    file: str | None = None
    bytes: int | None = None
    accuracy: Accuracy | None = None
    change: Change | None = None
    agreement: float | None = None
    sqnr_db: float | None = None
    latencies: tuple[Latency, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    left_float: tuple[str, ...] = ()
    saturated: tuple[str, ...] = ()
    memory: int | None = None
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class CurvePoint:
    epoch: float
    step: int
    lr: float
    loss: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Curve:
    """Learning curve of one training: ``accuracy`` is on the evaluation images, a fraction."""

    name: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Run:
    """One execution: the whole of ``run.json``. ``status`` is running, done, below bar, failed or interrupted.

    ``interface`` is that of the file that the run delivers.
    """

    id: str
    command: str
    model: str
    status: str
    started: str
    seconds: float
    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    widths: tuple[LayerWidth, ...] = ()
    table: LatencyTable | None = None
    frontier: Frontier | None = None
    trials: tuple[Trial, ...] = ()
    ranges: tuple[TensorRange, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()
    repair: tuple[RepairStep, ...] = ()
    curves: tuple[Curve, ...] = ()
    interface: Interface | None = None
    notes: tuple[str, ...] = ()
    results: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def dumps(record: object) -> bytes:
    """Encode a record as indented JSON (UTF-8)."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def loads(data: bytes, kind: type[Record], where: str) -> Record:
    """Decode JSON into ``kind``, checking every field; ``where`` names the source in the error.

    Raises:
        StoreError: not JSON, or a field of the wrong type.
        NewerFormat: written by a newer version of gleanet.
    """
    try:
        raw = msgspec.json.decode(data)
        version = raw.get("format_version", FORMAT_VERSION) if isinstance(raw, dict) else FORMAT_VERSION
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise NewerFormat(
                f"{where} was written by a newer gleanet (format {version}, this one reads {FORMAT_VERSION}): upgrade gleanet"
            )
        return msgspec.convert(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{where} is not a {kind.__name__} record: {error}") from error


def read_record(file: Path, kind: type[Record]) -> Record:
    """The record that a file holds, as :func:`loads`.

    Raises:
        StoreError: it cannot be read, or holds something else.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    return loads(data, kind, str(file))


def loads_plain(value: object, kind: type[Record], where: str) -> Record:
    """A record from the plain values that a run's ``results`` hold; as :func:`loads`.

    Raises:
        StoreError: a field of the wrong type.
    """
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{where} cannot be read back: {error}") from error
