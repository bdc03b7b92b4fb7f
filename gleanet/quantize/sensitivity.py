"""How much each layer costs when it is quantized: alone, and what it would bring to leave it, alone, in float."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gleanet.core.progress import SILENT, Progress
from gleanet.core.records import LayerSensitivity
from gleanet.core.stats import sqnr_db
from gleanet.quantize.calibrate import Ranges
from gleanet.quantize.cut import Walk, cuts, image_values, stacked
from gleanet.quantize.insert import insert
from gleanet.quantize.layers import island, layer_names
from gleanet.quantize.methods import Method

MOST_DB = 200.0  # JSON knows no infinity


def sensitivity(
    prepared: onnx.ModelProto,
    ranges: Ranges,
    method: Method,
    source: onnx.ModelProto,
    images: NDArray[Any],
    *,
    threads: int = 1,
    progress: Progress = SILENT,
) -> tuple[LayerSensitivity, ...]:
    """Sensitivity of every layer with weights that ``method`` quantizes, the one that alone does the most harm first.

    Each is the SQNR of the logits of a whole quantized model, one where only the layer (and the activation that follows it) is quantized,
    one where only it is not. Both models share everything before the layer with the float model, or with the fully quantized one. So these
    two are run once, from layer to layer, and of each variant only what follows the layer is run, from the values they have there.

    The order is by the harm of the layer alone: errors of layers partly cancel, so what all the others do is a noisier guide.

    Args:
        prepared: from :func:`gleanet.quantize.prepare.prepare`.
        ranges: of every activation of ``prepared``.
        method: a static one. Padding and format are ignored: they change no number.
        source: the model as it was given.
        images: [N, C, H, W] float32 or uint8; 128 or more for a ranking that holds.
        threads: of the runtime.

    Raises:
        DataError: no images.
        QuantizationError: ONNX Runtime cannot insert the method, or cannot run the result.
    """
    plain = replace(method, pad=False, format="QDQ")
    layers = layer_names(prepared, plain)
    every = [node.name for node in prepared.graph.node]
    output = prepared.graph.output[0].name
    values = image_values(prepared, images, source)
    exact = Walk(prepared, values, threads)
    coded = Walk(insert(prepared, ranges, plain, source), values, threads)
    logits = _logits(exact.see([output]), output, len(images))
    found: list[LayerSensitivity] = []
    with progress.task("Sensitivity", len(layers), "layers") as advance:
        for layer, cut in cuts(prepared, layers).items():
            exact.to(cut)
            coded.to(cut)
            own = island(prepared, (layer,))
            alone = insert(prepared, ranges, plain, source, keep_float=_without(every, own))
            others = insert(prepared, ranges, plain, source, keep_float=own)
            sides = [
                min(sqnr_db(logits, _logits(walk.see([output], model), output, len(images))), MOST_DB)
                for walk, model in ((exact, alone), (coded, others))
            ]
            found.append(LayerSensitivity(layer, *sides))
            advance(1)
    return tuple(sorted(found, key=lambda record: (record.alone_db, -record.others_db)))


def _without(names: Sequence[str], few: Sequence[str]) -> list[str]:
    return [name for name in names if name not in few]


def _logits(chunks: list[dict[str, NDArray[Any]]], output: str, count: int) -> NDArray[np.float32]:
    return stacked(chunks, output)[:count].reshape(count, -1).astype(np.float32, copy=False)
