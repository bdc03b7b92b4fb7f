"""What a classifier takes: normalised float images or uint8 pixels; NCHW, or NHWC as cameras give it.

Pixels are normalised by Cast and one BatchNormalization whose scale and shift are ours: (pixel / 255 - mean) / std = factor pixel + offset.
Measured with ONNX Runtime 1.32 (one thread, first layer of an int8 network, 224 x 224 pixels): 0.37 ms against 0.38 as Cast, Mul, Add or as
DequantizeLinear (with an axis, which works) and Add. With NHWC input it is 0.41 ms against 1.06 and 0.86: the runtime moves the Transpose
behind elementwise operators, which then repeat 3 numbers a pixel; it does not move it behind a BatchNormalization.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gleanet.core.errors import ExportError, SettingsError
from gleanet.core.records import Preprocess
from gleanet.export.edit import Dim, attribute, constant, drop_unused, fresh, image_input, readers, redirect, set_shape
from gleanet.measure.accuracy import affine
from gleanet.measure.metadata import PREPROCESS, metadata_of

Input = Literal["float", "uint8"]
Layout = Literal["NCHW", "NHWC"]

_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
_NAME = "preprocess."
_NORMALIZED = "preprocess.normalize"
_USUAL = (1, 3, 4)  # channels of an image


def preprocess_of(model: onnx.ModelProto) -> Preprocess | None:
    """How pixels become the input, as the metadata says; None where it does not say."""
    return metadata_of(model, Path("the model")).preprocess


def set_preprocess(model: onnx.ModelProto, preprocess: Preprocess | None, layout: Layout = "NCHW") -> None:
    """Write it into the metadata, in place, as that of an input in ``layout``; None removes it."""
    kept = [entry for entry in model.metadata_props if entry.key != PREPROCESS]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if preprocess is not None:
        model.metadata_props.add(key=PREPROCESS, value=json.dumps(asdict(replace(preprocess, layout=layout))))


def layout_of(model: onnx.ModelProto) -> Layout:
    """Layout of the input: as the metadata says, else as a Transpose at the front shows, else as the sizes suggest."""
    preprocess = preprocess_of(model)
    if preprocess is not None:
        return "NHWC" if preprocess.layout == "NHWC" else "NCHW"
    value = image_input(model.graph)
    first = _leading_transpose(model.graph, value.name)
    if first is not None:
        return "NHWC" if attribute(first, "perm", None) == _TO_NCHW else "NCHW"
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return "NHWC" if len(sizes) == 4 and sizes[3] in _USUAL and sizes[1] not in _USUAL else "NCHW"


def set_layout(model: onnx.ModelProto, wanted: Layout) -> None:
    """Make the input ``wanted``, in place: a Transpose is put at the front, or the one that is there cut off.

    Raises:
        ExportError: the input has not 4 dimensions.
    """
    if layout_of(model) == wanted:
        return
    graph = model.graph
    value = image_input(graph)
    dims = list(value.type.tensor_type.shape.dim)
    if len(dims) != 4:
        raise ExportError(f"input {value.name!r} has {len(dims)} dimensions: a layout needs 4")
    turn, back = (_TO_NHWC, _TO_NCHW) if wanted == "NHWC" else (_TO_NCHW, _TO_NHWC)
    first = _leading_transpose(graph, value.name)
    if first is not None and attribute(first, "perm", None) == turn:
        redirect(graph, first.output[0], value.name)
        graph.node.remove(first)
    else:
        turned = fresh(graph, "preprocess.layout")
        redirect(graph, value.name, turned)
        graph.node.insert(0, helper.make_node("Transpose", [value.name], [turned], name=turned, perm=back))
    sizes: list[Dim] = [dims[axis].dim_value or dims[axis].dim_param or None for axis in turn]
    set_shape(value, value.type.tensor_type.elem_type, sizes)
    preprocess = preprocess_of(model)
    if preprocess is not None:
        set_preprocess(model, preprocess, wanted)


def take_pixels(model: onnx.ModelProto, preprocess: Preprocess | None) -> None:
    """Make the input uint8 pixels, in place, with the normalisation inside; behind a Transpose at the front, if there is one.

    Args:
        preprocess: how the network wants its pixels; None: as the metadata says.

    Raises:
        SettingsError: nothing says how, or for another number of channels or order of colors, or against what the graph does already.
    """
    graph = model.graph
    value = image_input(graph)
    kind = value.type.tensor_type.elem_type
    if kind == TensorProto.UINT8:
        own = _own_stage(graph)
        if preprocess is not None and (own is None or not _same(_restored(graph), preprocess)):
            raise SettingsError("the model takes uint8 pixels and normalises them already: leave out mean and std")
        return
    wanted = preprocess or preprocess_of(model)
    if wanted is None:
        raise SettingsError(
            "uint8 input needs to know how pixels are normalised: give --mean and --std (of pixels scaled to 0..1), "
            f"or metadata {PREPROCESS} in the file"
        )
    _check(wanted)
    _normalise(model, value, affine(wanted))
    value.type.tensor_type.elem_type = TensorProto.UINT8
    set_preprocess(model, None)


def take_floats(model: onnx.ModelProto) -> None:
    """Make the input normalised float images, in place: what :func:`take_pixels` put in is cut off, the metadata says it again.

    Raises:
        ExportError: a uint8 model that was not made by us: what to cut off is not known.
    """
    graph = model.graph
    value = image_input(graph)
    if value.type.tensor_type.elem_type != TensorProto.UINT8:
        return
    own = _own_stage(graph)
    if own is None:
        raise ExportError(
            "the model takes uint8 pixels in a way of its own, which cannot be cut off: export it with float input where it was made"
        )
    first, last = own[0], own[-1]
    layout, preprocess = layout_of(model), _restored(graph)
    redirect(graph, last.output[0], first.input[0])
    value.type.tensor_type.elem_type = TensorProto.FLOAT if last.op_type != "Cast" else attribute(last, "to", TensorProto.FLOAT)
    drop_unused(graph)
    set_preprocess(model, preprocess, layout)


def front(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool, bool]:
    """What :func:`take_pixels` put into ``model``, as a model of its own with a free batch; whether it takes, and whether it gives, NHWC.

    Raises:
        ExportError: there is nothing of the kind.
    """
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    own = _own_stage(graph)
    if own is None:
        raise ExportError("the model normalises pixels in a way of its own")
    del graph.output[:], graph.value_info[:]
    graph.output.add(name=own[-1].output[0])
    drop_unused(graph)
    value = image_input(graph)
    value.type.tensor_type.shape.dim[0].Clear()
    return part, layout_of(model) == "NHWC", any(node.op_type == "Add" for node in own)


def _leading_transpose(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The one reader of input ``name`` when it turns NCHW to NHWC or back."""
    found = readers(graph, name)
    if len(found) == 1 and found[0].op_type == "Transpose" and attribute(found[0], "perm", None) in (_TO_NCHW, _TO_NHWC):
        return found[0]
    return None


def _normalise(model: onnx.ModelProto, value: onnx.ValueInfoProto, constants: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    """Insert Cast and normalisation behind the input, or behind its Transpose."""
    graph = model.graph
    layout, first = layout_of(model), _leading_transpose(graph, value.name)
    dims = value.type.tensor_type.shape.dim
    channels = dims[3 if layout == "NHWC" else 1].dim_value if len(dims) == 4 else 0
    factor, shift = (_per_channel(array, channels) for array in constants)
    entry = value.name if first is None else first.output[0]
    nodes = [helper.make_node("Cast", [entry], [_NAME + "cast"], name=_NAME + "cast", to=TensorProto.FLOAT)]
    if (layout == "NCHW") == (first is None):  # channels are axis 1 here
        names = {
            _NAME + "factor": factor,
            _NAME + "offset": shift,
            _NAME + "zero": np.zeros_like(shift),
            _NAME + "one": np.ones_like(shift),
        }
        inputs = [_NAME + "cast", *names]
        nodes.append(helper.make_node("BatchNormalization", inputs, [_NORMALIZED], name=_NORMALIZED, epsilon=0.0))
    else:
        names = {_NAME + "factor": factor, _NAME + "offset": shift}
        nodes.append(helper.make_node("Mul", [_NAME + "cast", _NAME + "factor"], [_NAME + "scale"], name=_NAME + "scale"))
        nodes.append(helper.make_node("Add", [_NAME + "scale", _NAME + "offset"], [_NORMALIZED], name=_NORMALIZED))
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [_NORMALIZED], [_NAME + "narrow"], name=_NAME + "narrow", to=kind))
    redirect(graph, entry, nodes[-1].output[0])
    at = 0 if first is None else list(graph.node).index(first) + 1
    for place, node in enumerate(nodes, at):
        graph.node.insert(place, node)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in names.items())


def _check(preprocess: Preprocess) -> None:
    if preprocess.color != "RGB":
        raise SettingsError(f"the model wants {preprocess.color} pixels: only RGB is supported")
    mean, std = np.asarray(preprocess.mean), np.asarray(preprocess.std)
    if len(mean) != len(std) or not len(mean) or not np.isfinite([*mean, *std]).all() or std.min() <= 0:
        raise SettingsError(f"mean and std must be as many finite numbers, std above 0, got {preprocess.mean} and {preprocess.std}")


def _per_channel(array: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if channels and len(array) not in (1, channels):
        raise SettingsError(f"mean and std have {len(array)} numbers, the images {channels} channels: give one for each, or a single one")
    return np.ascontiguousarray(np.broadcast_to(array, channels or len(array)))


def _own_stage(graph: onnx.GraphProto) -> list[onnx.NodeProto] | None:
    """The nodes of :func:`take_pixels`, in order; None where there are none."""
    found = [node for node in graph.node if node.name.startswith(_NAME) and node.op_type != "Transpose"]
    kinds = [node.op_type for node in found]
    constants = [constant(graph, _NAME + name) for name in ("factor", "offset")]
    ours = kinds[:2] in (["Cast", "BatchNormalization"], ["Cast", "Mul"]) and not any(array is None for array in constants)
    return found if ours else None


def _restored(graph: onnx.GraphProto) -> Preprocess:
    """Mean and std of pixels in 0..1, to the 6 digits that float32 constants keep."""
    factor, offset = constant(graph, _NAME + "factor"), constant(graph, _NAME + "offset")
    assert factor is not None
    assert offset is not None
    std = 1 / (255 * factor.astype(np.float64))
    mean = -offset.astype(np.float64) * std
    return Preprocess(mean=tuple(float(f"{v:.6g}") for v in mean), std=tuple(float(f"{v:.6g}") for v in std))


def _same(one: Preprocess, other: Preprocess) -> bool:
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(affine(one), affine(other), strict=True))
