"""What an ONNX file must be before anything looks into it: text that is text, tensors with as many values as their shape says.

Protocol buffers promise neither: a string field holds any bytes until somebody asks for it, and nothing ties a shape to its data.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from onnx import TensorProto

from gleanet.core.errors import ModelError

MAX_VALUES = 2**31  # of one tensor: no ONNX file of 2 GB holds more, not even of 8 bits each
MAX_INPUT = 3 * 2**24  # of one image, as many as an image of a data set may have
_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16, TensorProto.INT16: 16,
    TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.BOOL: 8, TensorProto.FLOAT16: 16, TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32, TensorProto.UINT64: 64, TensorProto.COMPLEX64: 64, TensorProto.COMPLEX128: 128, TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8, TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.UINT4: 4, TensorProto.INT4: 4,
}  # fmt: skip
_FIELDS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1), TensorProto.COMPLEX64: ("float_data", 2), TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2), TensorProto.INT64: ("int64_data", 1), TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1), TensorProto.STRING: ("string_data", 1),
}  # fmt: skip


def check_text(model: onnx.ModelProto, file: Path) -> None:
    """Raise ModelError where a name or another text in ``model`` is not UTF-8."""
    try:
        bad = next((name for name, value in _texts(model) if not isinstance(value, str)), None)
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is damaged: it holds text that is not UTF-8 ({error.reason}); get it again") from error
    if bad is not None:
        raise ModelError(f"{file} is damaged: a field {bad!r} holds text that is not UTF-8; get it again")


def check_tensors(tensors: Iterator[TensorProto], file: Path) -> None:
    """Raise ModelError where a tensor that lies in the file itself has another number of values than its shape says."""
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            continue
        values, held = math.prod(tensor.dims), _held(tensor)
        if min(tensor.dims, default=0) < 0 or values > MAX_VALUES or (held is not None and held != _packed(tensor, values)):
            raise ModelError(
                f"{file} is damaged: tensor {tensor.name!r} of shape {list(tensor.dims)} does not hold its values; get it again"
            )


def check_inputs(model: onnx.ModelProto, file: Path) -> None:
    """Raise ModelError where an input of one image is larger than any image: what times or calibrates would ask for that much memory."""
    for value in model.graph.input:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if math.prod(max(1, size) for size in sizes[1:]) > MAX_INPUT:
            raise ModelError(
                f"{file}: input {value.name!r} is {sizes}, more than {MAX_INPUT:,} values an image: export it for smaller images"
            )


def _held(tensor: TensorProto) -> int | None:
    """How many bytes (raw data) or entries (typed data) a tensor holds; None for a type that nothing here reads."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) if tensor.data_type in _BITS else None
    if tensor.data_type in _FIELDS:
        return len(getattr(tensor, _FIELDS[tensor.data_type][0]))
    return len(tensor.int32_data) if tensor.data_type in _BITS else None


def _packed(tensor: TensorProto, values: int) -> int:
    """What :func:`_held` must say of ``values`` values."""
    bits = _BITS.get(tensor.data_type, 8)
    if tensor.HasField("raw_data"):
        return math.ceil(values * bits / 8)
    if tensor.data_type in _FIELDS:
        return values * _FIELDS[tensor.data_type][1]
    return math.ceil(values / 2) if bits == 4 else values  # 4-bit values lie in pairs, others one an entry


def _texts(message: Any) -> Iterator[tuple[str, object]]:
    """(field, text) of every text field in a message and those inside it. Not UTF-8: bytes, or UnicodeDecodeError."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend([value] if hasattr(value, "ListFields") else value)
            elif field.type == FieldDescriptor.TYPE_STRING:
                yield from ((field.name, text) for text in ([value] if isinstance(value, str | bytes) else value))
