"""What calibration sees: the values of the tensors that a quantizer can need, and the extremes of all others, chunk by chunk.

Tensors that get a histogram become outputs of the graph. Behind every other float tensor stand a ReduceMin and a ReduceMax, so that a run
hands back two numbers for it, whatever the number of images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from gleanet.core.errors import DataError, QuantizationError
from gleanet.core.records import Preprocess
from gleanet.measure.accuracy import as_taken
from gleanet.measure.runtime import ORT_ERRORS, one_line, session_in_memory

CHUNK = 64  # images per run at most ...
CHUNK_BYTES = 1 << 27  # ... and so few that all activations together stay below this, but at least one
QUANTIZABLE = frozenset({*QDQRegistry, *QLinearOpsRegistry})
_REMOVED = ("Relu", "Clip")  # the inserter lets the layer before write their output at once
_LOW, _HIGH = "gleanet.low:", "gleanet.high:"


@dataclass(frozen=True)
class Observer:
    """A session that answers with values and extremes.

    Attributes:
        file: names the model in errors.
        entry: the image input; ``dtype``, ``shape`` and ``batch`` are what it takes, None where any size will do.
        names: float tensors, in graph order: ``values``, whose values are wanted, and ``extremes``, of which two numbers are enough.
    """

    file: Path
    session: Any
    entry: str
    dtype: Any
    shape: tuple[int | None, ...]
    batch: int | None
    names: tuple[str, ...]
    values: tuple[str, ...]
    extremes: tuple[str, ...]

    def run(
        self, images: NDArray[Any], preprocess: Preprocess | None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, tuple[float, float]]]:
        """Values and extremes for ``images`` [n, ...]; a file with a fixed batch is fed copies of the last image, which count nowhere.

        Raises:
            DataError: images of another type or shape than the model takes.
        """
        pixels = images.dtype == np.uint8 and self.dtype is np.float32
        ready = np.ascontiguousarray(as_taken(images, self.shape, preprocess if pixels else None))
        if ready.dtype != self.dtype:
            raise DataError(f"{self.file} takes {np.dtype(self.dtype)} images, these are {ready.dtype}: preprocess as for training")
        size = self.batch or len(ready)
        if len(ready) < size:
            ready = np.concatenate([ready, np.repeat(ready[-1:], size - len(ready), axis=0)])
        fetched = [name for name in self.values if name != self.entry]
        reduced = [prefix + name for name in self.extremes for prefix in (_LOW, _HIGH)]
        try:
            found = self.session.run([*fetched, *reduced], {self.entry: np.ascontiguousarray(ready)})
        except ORT_ERRORS as error:
            raise DataError(f"{self.file} does not take calibration images {list(ready.shape)}: {one_line(error)}") from error
        values = dict(zip(fetched, found, strict=False))
        if self.entry in self.values:
            values[self.entry] = ready
        numbers = iter(found[len(fetched) :])
        extremes = {name: (float(low), float(high)) for name, low, high in zip(self.extremes, numbers, numbers, strict=True)}
        return {name: _own(array, size, len(images)) for name, array in values.items()}, extremes


def observe(model: onnx.ModelProto, *, histograms: bool, threads: int, file: Path) -> Observer:
    """Open ``model`` for calibration.

    Raises:
        QuantizationError: the runtime refuses it.
    """
    names = float_tensors(model)
    wanted = quantized_tensors(model) if histograms else set()
    values = [name for name in names if name in wanted]
    extremes = [name for name in names if name not in values]
    fed = _image_input(model).name
    try:
        session = session_in_memory(_extended(model, [name for name in values if name != fed], extremes), threads=threads)
    except ORT_ERRORS as error:
        raise QuantizationError(f"cannot calibrate {file}: {one_line(error)}") from error
    entry = session.get_inputs()[0]
    return Observer(
        file=file,
        session=session,
        entry=entry.name,
        dtype=np.uint8 if entry.type == "tensor(uint8)" else np.float32,
        shape=tuple(size if isinstance(size, int) else None for size in entry.shape),
        batch=entry.shape[0] if isinstance(entry.shape[0], int) else None,
        names=tuple(names),
        values=tuple(values),
        extremes=tuple(extremes),
    )


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """Every float32 tensor that a node of the main graph reads or makes, constants aside, in graph order."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer} | {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    names = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output))
    return [name for name in names if name and name not in constants and kinds.get(name) == onnx.TensorProto.FLOAT]


def quantized_tensors(model: onnx.ModelProto) -> set[str]:
    """Tensors that the inserter can give a scale of their own: inputs and outputs of the operators it knows, without those that only a
    ReLU or Clip reads, which it drops."""
    known = {name for node in model.graph.node if node.op_type in QUANTIZABLE for name in (*node.input, *node.output)}
    readers: dict[str, list[str]] = {value.name: ["output"] for value in (*model.graph.output, *model.graph.input)}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    return {name for name in known if not (len(readers.get(name, [])) == 1 and readers[name][0] in _REMOVED)}


def images_per_run(models: Sequence[onnx.ModelProto], image: tuple[int, ...]) -> int:
    """How many images of this shape go through the models at once."""
    return max(1, min(CHUNK, *(CHUNK_BYTES // max(1, activation_bytes(model, image)) for model in models)))


def activation_bytes(model: onnx.ModelProto, image: tuple[int, ...]) -> int:
    """Bytes of all float tensors of the main graph together, for one image. What shape inference leaves open is left out."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    dims = _image_input(sized).type.tensor_type.shape.dim
    if len(dims) != len(image) + 1:
        return 0  # the run will say that the images do not fit
    batch = dims[0].dim_value or 1
    for dim, size in zip(dims, (batch, *image), strict=True):
        dim.dim_value = size
    names = set(float_tensors(model))
    del sized.graph.value_info[:]
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return 0
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*graph.value_info, *graph.output)}
    return 4 * sum(int(np.prod(shape)) for name, shape in shapes.items() if name in names) // batch


def rechunk(batches: Iterable[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """The same images in chunks of ``size``, however the stream is cut: fewer only at its end and where the shape or type changes."""
    held: list[NDArray[Any]] = []
    for batch in batches:
        if held and (held[0].shape[1:], held[0].dtype) != (batch.shape[1:], batch.dtype):
            yield np.concatenate(held)
            held = []
        start = 0
        while start < len(batch):
            held.append(batch[start : start + size - sum(map(len, held))])
            start += len(held[-1])
            if sum(map(len, held)) == size:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held = []
        if held:  # the caller may reuse its array for the next batch
            held[-1] = held[-1].copy()
    if held:
        yield np.concatenate(held)


def _image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    constants = {tensor.name for tensor in model.graph.initializer}  # old files list these among the inputs too
    image: onnx.ValueInfoProto = next(value for value in model.graph.input if value.name not in constants)
    return image


def _own(array: NDArray[np.float32], size: int, count: int) -> NDArray[np.float32]:
    """The part of ``array`` that belongs to the first ``count`` of ``size`` images; all of it when its first axis does not tell."""
    return array[: len(array) // size * count] if array.ndim and len(array) % size == 0 else array


def _extended(model: onnx.ModelProto, values: list[str], extremes: list[str]) -> onnx.ModelProto:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    extended.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in values)
    for name in extremes:
        for kind, prefix in (("ReduceMin", _LOW), ("ReduceMax", _HIGH)):
            extended.graph.node.append(helper.make_node(kind, [name], [prefix + name], keepdims=0))
            extended.graph.output.append(helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, []))
    return extended
