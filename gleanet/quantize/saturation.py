"""Sums of products that saturate: what a QDQ file means, against what the runtime makes of it.

On x86 CPUs without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with VPMADDUBSW, which adds pairs of products in 16 bits
and saturates at 32,767 (ONNX Runtime issues 5849 and 12072). Without graph optimizations a QDQ file is run in float, as it is written, so a
gap between the two runs shows it on the machine at hand. For machines that are not at hand, :func:`would_saturate` looks at the sums of
pairs themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gleanet.core.lazy import Array
from gleanet.core.stats import sqnr_db
from gleanet.measure.accuracy import as_taken, logits_in_batches, pixel_preprocess
from gleanet.measure.runtime import StrPath, open_session, read_model, session_in_memory
from gleanet.quantize.evaluation import Block

PROBE = 64  # images on which the run with and without runtime optimizations are compared
GAP_DB = 6.0  # a loss of more than one bit of the logits between the two
LAYER_PROBE = 4  # images on which single layers are looked at
LEVELS = 2  # rounding makes a layer's outputs differ by one level of 256, saturation by many
PATCHES = 256  # receptive fields per layer whose sums of pairs are looked at
LIMIT = 2**15 - 1


def strays(file: StrPath, block: Block, logits: NDArray[np.float32]) -> tuple[float, float] | None:
    """SQNR of the logits as run, and as the file means them, in dB, where the run loses more than one bit; else None.

    Args:
        file: a quantized file; with integer operators instead of QDQ pairs the two runs are one, and nothing is found.
        block: images with the float model's logits.
        logits: of the file on the same images, as the runtime runs it.
    """
    session = open_session(file, optimize=False)
    plain = np.concatenate(list(logits_in_batches(session, block.images[:PROBE], PROBE)))
    meant, got = sqnr_db(block.logits[:PROBE], plain), sqnr_db(block.logits[:PROBE], logits[:PROBE])
    return (got, meant) if meant - got > GAP_DB else None


@dataclass(frozen=True)
class Layer:
    """A quantized layer of a QDQ file: the tensors of integers that go in and come out, and its weights [M, C / groups, ...] int8."""

    node: onnx.NodeProto
    input: str
    output: str
    weights: NDArray[Any]


def saturated_layers(file: StrPath, images: Array) -> tuple[str, ...]:
    """Names of the layers that give other integers on this CPU than the file says, each fed what the file says.

    Args:
        file: a QDQ file.
        images: [N, C, H, W] as the file takes them; a few are used.
    """
    model = read_model(file)
    layers = list(quantized_layers(model))
    values = _values(model, [name for layer in layers for name in (layer.input, layer.output)], images, file)
    found = []
    for layer in layers:
        part = onnx.utils.Extractor(model).extract_model([layer.input], [layer.output])
        (ran,) = session_in_memory(part).run([layer.output], {layer.input: values[layer.input]})
        if np.abs(ran.astype(np.int32) - values[layer.output].astype(np.int32)).max() > LEVELS:
            found.append(layer.node.name)
    return tuple(found)


def would_saturate(file: StrPath, images: NDArray[Any], *, seed: int = 0) -> tuple[str, ...]:
    """Names of the layers whose sums would saturate on x86 CPUs without VNNI: some pair of products exceeds 16 bits on these images.

    Pairs are neighbours in the order in which ONNX Runtime packs a receptive field: kernel position after kernel position, channels inside.
    A sample of the receptive fields is looked at.

    Args:
        file: a QDQ file; only layers with uint8 inputs and int8 weights can saturate.
        images: [N, C, H, W] as the file takes them; a few are used.
        seed: of the sample.
    """
    model = read_model(file)
    suspects = [layer for layer in quantized_layers(model) if layer.weights.dtype == np.int8 and _suspect(layer.weights).any()]
    if not suspects:
        return ()
    values = _values(model, [layer.input for layer in suspects], images, file)
    rng = np.random.default_rng(seed)
    return tuple(layer.node.name for layer in suspects if values[layer.input].dtype == np.uint8 and _exceeds(layer, values, rng))


def quantized_layers(model: onnx.ModelProto) -> Iterator[Layer]:
    """Convolutions and linear layers that stand between DequantizeLinear and QuantizeLinear, with constant weights."""
    makers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        sources = [makers.get(name) for name in node.input[:2]]
        if any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        into, weight = (source.input[0] for source in sources if source is not None)
        after = _quantized_output(node, readers)
        if weight in constants and after is not None:
            yield Layer(node, into, after, _outputs_first(node, numpy_helper.to_array(constants[weight])))


def _quantized_output(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> str | None:
    """The integers behind ``node``, through an activation that the runtime fuses."""
    following = readers.get(node.output[0], [])
    if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
        following = readers.get(following[0].output[0], [])
    if len(following) == 1 and following[0].op_type == "QuantizeLinear":
        return str(following[0].output[0])
    return None


def _outputs_first(node: onnx.NodeProto, weights: NDArray[Any]) -> NDArray[Any]:
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return weights if node.op_type == "Conv" or transposed else weights.T


def _values(model: onnx.ModelProto, names: list[str], images: Array, file: StrPath) -> dict[str, NDArray[Any]]:
    """What these tensors hold when the file is run as it is written."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(names))
    present = {output.name for output in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    session = session_in_memory(watched, optimize=False)
    given = open_session(file)
    count = given.batch or LAYER_PROBE
    few = np.resize(images[:], (count, *images.shape[1:])) if len(images) < count else images[:count]
    preprocess = pixel_preprocess(given, few)
    ready = as_taken(few, given.shape, preprocess).astype(given.dtype, copy=False)
    (entry,) = session.get_inputs()
    results = session.run(names, {entry.name: np.ascontiguousarray(ready)})
    return dict(zip(names, results, strict=True))


def _packed(fields: NDArray[Any]) -> NDArray[np.int32]:
    """Filters or receptive fields [n, C, *kernel] as [n, K], K even, in the order of multiplication: channels inside kernel positions."""
    inner = np.moveaxis(fields, 1, -1).reshape(len(fields), -1).astype(np.int32)
    return np.pad(inner, ((0, 0), (0, inner.shape[1] % 2)))


def _suspect(weights: NDArray[Any]) -> NDArray[np.bool_]:
    """Filters [M] that could exceed 16 bits if all activations were full: two weights of a pair that pull the same way."""
    pairs = _packed(weights).reshape(len(weights), -1, 2)
    pull = np.maximum(pairs.clip(min=0).sum(axis=2), -pairs.clip(max=0).sum(axis=2))
    return np.asarray(255 * pull.max(axis=1) > LIMIT)


def _exceeds(layer: Layer, values: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> bool:
    """Whether a pair of products of a sample of receptive fields exceeds 16 bits. Groups are taken one by one."""
    groups = next((a.i for a in layer.node.attribute if a.name == "group"), 1)
    fields = _receptive_fields(layer, values[layer.input], rng)
    for part, weights in zip(np.split(fields, groups, axis=1), np.split(layer.weights, groups), strict=True):
        packed = _packed(part)
        for row in _packed(weights)[_suspect(weights)]:
            sums = (packed * row).reshape(len(packed), -1, 2).sum(axis=2)
            if np.abs(sums).max() > LIMIT:
                return True
    return False


def _receptive_fields(layer: Layer, x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """A sample of the receptive fields of a layer, [P, C, *kernel]; padding, which is zero there, is left out."""
    if layer.node.op_type != "Conv":
        rows = x.reshape(-1, x.shape[-1])
        return rows[rng.permutation(len(rows))[:PATCHES], :, None]
    attributes = {a.name: helper.get_attribute_value(a) for a in layer.node.attribute}
    kernel = layer.weights.shape[2:]
    dilations = attributes.get("dilations", [1] * len(kernel))
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    axes = tuple(range(2, 2 + len(kernel)))
    fitting = np.pad(x, [(0, 0), (0, 0), *((0, max(0, r - size)) for r, size in zip(reach, x.shape[2:], strict=True))])
    steps: tuple[Any, ...] = (..., *(slice(None, None, d) for d in dilations))
    windows = sliding_window_view(fitting, reach, axis=axes)[steps]
    windows = np.moveaxis(windows, 1, 1 + len(kernel))  # [N, *positions, C, *kernel]
    places = windows.shape[: 1 + len(kernel)]
    chosen = np.unravel_index(rng.permutation(int(np.prod(places)))[:PATCHES], places)
    return np.asarray(windows[chosen])


def named(layers: tuple[str, ...], most: int = 5) -> str:
    """A few names in words."""
    return ", ".join(layers[:most]) + (f" and {len(layers) - most} more" if len(layers) > most else "")


def chosen_note(file: Path, images: NDArray[Any]) -> str:
    """What the user of a chosen file should know about other machines; empty when there is nothing."""
    layers = would_saturate(file, images)
    if not layers:
        return ""
    return f"On x86 CPUs without VNNI its sums would saturate in {named(layers)}: choose a method with 7-bit weights (-7bit) for them."
