"""The table of quantization methods. A method is a point of the grid of DESIGN 5.6; to add one, add a row.

All of them are static and written as QDQ pairs, which ONNX Runtime fuses into integer operators when it loads the file. Names: activation
type and weight type (``u8s8``: uint8 activations, int8 weights), then what differs from the plain form:

    -7bit     weights use 7 of the 8 bits (reduce range), so that sums of products cannot saturate on x86 CPUs without VNNI
    -channel  one weight scale per output channel instead of one per tensor
    -pad      zero channels are added where the runtime's integer convolution has no fast path for the width (see widen.py)
    -head     the last linear layer stays float: it costs nothing there, and the logits are not rounded to 256 levels
"""

from dataclasses import dataclass
from typing import Literal

from gleanet.core.errors import SettingsError

Integer = Literal["uint8", "int8"]


@dataclass(frozen=True)
class Method:
    """One way to quantize.

    Attributes:
        name: as in the table.
        activation, weight: integer types; int8 weights are symmetric (zero point 0), biases are int32 always.
        per_channel: one weight scale per output channel.
        reduce_range: weights in 7 bits.
        float_head: leave the last linear layer in float.
        pad: widen convolutions with zero channels to what the runtime's kernels like.
        format: how it is written in the file.
        calibrator: how activation ranges are found.
    """

    name: str
    activation: Integer
    weight: Integer
    per_channel: bool = False
    reduce_range: bool = False
    float_head: bool = False
    pad: bool = False
    format: Literal["QDQ"] = "QDQ"
    calibrator: Literal["min-max"] = "min-max"


def _row(types: str, *options: str) -> Method:
    kinds: dict[str, Integer] = {"u8": "uint8", "s8": "int8"}
    return Method(
        name="-".join((types, *options)),
        activation=kinds[types[:2]],
        weight=kinds[types[2:]],
        per_channel="channel" in options,
        reduce_range="7bit" in options,
        float_head="head" in options,
        pad="pad" in options,
    )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _row("u8s8"),
        _row("u8s8", "channel"),
        _row("u8s8", "head"),
        _row("u8s8", "channel", "head"),
        _row("u8s8", "head", "pad"),
        _row("u8s8", "channel", "head", "pad"),
        _row("u8s8", "7bit"),
        _row("u8s8", "7bit", "channel"),
        _row("u8u8"),
        _row("u8u8", "channel"),
        _row("s8s8"),
        _row("s8s8", "channel"),
    )
}


def select(names: str) -> tuple[Method, ...]:
    """Methods by name: ``auto`` and ``all`` mean the whole table (it is short enough to try), else a comma list, in the given order.

    Raises:
        SettingsError: a name that is not in the table; the message lists those that are.
    """
    if names in ("auto", "all"):
        return tuple(METHODS.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in METHODS]
    if unknown or not wanted:
        raise SettingsError(
            f"unknown quantization method {', '.join(unknown) or repr(names)}: use auto, all, or some of {', '.join(METHODS)}"
        )
    return tuple(METHODS[name] for name in dict.fromkeys(wanted))
