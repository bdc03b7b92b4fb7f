"""Ranges of all activations over a stream of images: one pass, constant memory, any number of models and calibrators.

ONNX Runtime's own calibration keeps every activation of every image, wants batches of equal size, and its entropy calibration degenerates
to min-max. Here values go into histograms as they come (:mod:`gleanet.quantize.histogram`); what each calibrator clips is found from those
(:mod:`gleanet.quantize.thresholds`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gleanet.core.errors import DataError, QuantizationError, SettingsError
from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import Preprocess, TensorRange
from gleanet.quantize.histogram import CHANNEL_CAPACITY, Histogram, HistogramStream
from gleanet.quantize.observe import CHUNK as CHUNK
from gleanet.quantize.observe import Observer, images_per_run, observe, rechunk
from gleanet.quantize.thresholds import CALIBRATORS, threshold

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Statistics:
    """What calibration saw of one model.

    Attributes:
        seen: smallest and largest value of every float tensor, ``{tensor: (low, high)}``, in graph order.
        histograms: of the tensors that a quantizer can need; empty when none were asked for.
        channels: of each channel (axis 1) of those that have channels; empty when none were asked for.
    """

    seen: dict[str, tuple[float, float]]
    histograms: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, tuple[Histogram, ...]] = field(default_factory=dict)
    _found: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ranges(self, calibrator: str) -> dict[str, tuple[float, float]]:
        """``{tensor: (low, high)}`` for every tensor; low <= 0 <= high. Tensors without a histogram get all that was seen.

        Raises:
            SettingsError: an unknown calibrator, or one that needs the histograms that were not asked for.
        """
        limits = threshold(calibrator)
        if not self.histograms and calibrator != "min-max":
            raise SettingsError(f"calibrator {calibrator} needs histograms, and only smallest and largest values were kept")
        if calibrator not in self._found:
            whole = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in self.seen.items()}
            self._found[calibrator] = whole | {name: limits(histogram) for name, histogram in self.histograms.items()}
        return dict(self._found[calibrator])

    def channel_ranges(self, calibrator: str) -> dict[str, NDArray[np.float64]]:
        """``{tensor: [C, 2]}``: low and high of each channel; low <= 0 <= high.

        Raises:
            SettingsError: an unknown calibrator, or channels were not kept apart.
        """
        limits = threshold(calibrator)
        if not self.channels:
            raise SettingsError("ranges of single channels were not asked for: calibrate per channel")
        return {name: np.array([limits(histogram) for histogram in histograms]) for name, histograms in self.channels.items()}

    def records(self) -> tuple[TensorRange, ...]:
        """What a report shows: the tensors a quantizer can need, each with the range of every calibrator."""
        ranges = {calibrator: self.ranges(calibrator) for calibrator in (CALIBRATORS if self.histograms else ["min-max"])}
        return tuple(
            TensorRange(tensor=name, low=low, high=high, ranges={calibrator: found[name] for calibrator, found in ranges.items()})
            for name, (low, high) in self.seen.items()
            if name in self.histograms or not self.histograms
        )


def calibrate(
    models: Sequence[onnx.ModelProto],
    batches: Iterable[NDArray[Any]],
    *,
    file: Path,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    per_channel: bool = False,
    histograms: bool = True,
    progress: Progress = SILENT,
) -> tuple[Statistics, ...]:
    """Run all images through all models once and keep what every calibrator needs.

    The stream is cut anew into chunks whose activations take a bounded number of bytes, so the result does not depend on the sizes of the
    batches, to the last bit.

    Args:
        models: each with one image input and inferred shapes (see :func:`gleanet.quantize.prepare.prepare`); all take the same images.
        batches: images [n, C, H, W], n may differ from batch to batch; float32, or uint8 pixels.
        file: names the model in errors.
        preprocess: normalises uint8 pixels when a model takes float.
        threads: of the runtime.
        per_channel: histograms of single channels too; memory grows with their number, 8 KiB each, not with the images.
        histograms: False keeps smallest and largest values alone, which is faster.

    Returns:
        Statistics of each model.

    Raises:
        DataError: no images, or images of another shape than a model takes.
        QuantizationError: a tensor has values that are not finite, or the runtime refuses a model.
    """
    sights = [_Sight(observe(model, histograms=histograms, threads=threads, file=file), per_channel) for model in models]
    fixed = next((sight.observer.batch for sight in sights if sight.observer.batch), None)
    stream = (batch for batch in batches if len(batch))
    first = next(stream, None)
    if first is None:
        raise DataError("the calibration set is empty: give at least one batch of images")
    size = fixed or images_per_run(models, first.shape[1:])
    with progress.task("Calibrate", None, "images") as advance:
        for chunk in rechunk(_joined(first, stream), size):
            for sight in sights:
                sight.add(chunk, preprocess)
            advance(len(chunk))
    return tuple(sight.statistics() for sight in sights)


def min_max(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    *,
    file: Path,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every float tensor of the main graph, the input included: see :func:`calibrate`."""
    (found,) = calibrate([model], batches, file=file, preprocess=preprocess, threads=threads, histograms=False, progress=progress)
    return found.seen


def _joined(first: NDArray[Any], rest: Iterable[NDArray[Any]]) -> Iterable[NDArray[Any]]:
    yield first
    yield from rest


class _Sight:
    """What has been seen of one model so far."""

    def __init__(self, observer: Observer, per_channel: bool) -> None:
        self.observer = observer
        self._per_channel = per_channel
        self._extremes = dict.fromkeys(observer.extremes, (np.inf, -np.inf))
        self._tensors = {name: HistogramStream(self._what(name)) for name in observer.values}
        self._channels: dict[str, HistogramStream] = {}

    def add(self, images: NDArray[Any], preprocess: Preprocess | None) -> None:
        values, extremes = self.observer.run(images, preprocess)
        for name, (low, high) in extremes.items():
            if not (np.isfinite(low) and np.isfinite(high)):
                raise QuantizationError(f"{self._what(name)} is not finite on the calibration images: check weights and preprocessing")
            least, most = self._extremes[name]
            self._extremes[name] = min(least, low), max(most, high)
        for name, array in values.items():
            self._tensors[name].add(array.reshape(1, 1, -1))
            if self._per_channel and array.ndim > 1:
                shaped = array.reshape(*array.shape[:2], -1)
                if name not in self._channels:
                    self._channels[name] = HistogramStream(self._what(name), shaped.shape[1], CHANNEL_CAPACITY)
                self._channels[name].add(shaped)

    def statistics(self) -> Statistics:
        histograms = {name: stream.histograms()[0] for name, stream in self._tensors.items()}
        seen = self._extremes | {name: (found.low, found.high) for name, found in histograms.items()}
        channels = {name: stream.histograms() for name, stream in self._channels.items()}
        return Statistics(seen={name: seen[name] for name in self.observer.names}, histograms=histograms, channels=channels)

    def _what(self, name: str) -> str:
        return f"{self.observer.file}: tensor {name!r}"
