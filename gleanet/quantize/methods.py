"""The grid of quantization methods (DESIGN 5.6): every combination that can be written, and why the others cannot.

A name says what differs from the plain form, which is static, written as QDQ pairs, one scale per weight tensor, ranges by min-max:

    u8s8, u8u8, s8s8, u16s8     types of activations and weights (u8: uint8, s8: int8, u16: uint16)
    -7bit       weights use 7 of the 8 bits (reduce range), so that sums of products cannot saturate on x86 CPUs without VNNI
    -channel    one weight scale per output channel instead of one per tensor
    -head       the last linear layer stays float: it costs nothing there, and the logits are not rounded to 256 levels
    -pad        zero channels are added where the runtime's integer convolution has no fast path for the width (see widen.py)
    -percentile, -entropy, -mse     how the ranges of activations are found (see thresholds.py)
    -qop        written as integer operators (QLinearConv, ...) instead of QDQ pairs that the runtime fuses when it loads the file
    dynamic-    ranges of activations are found anew for every batch, as it runs (ConvInteger)
    weights8, weights4, float16     only the file gets smaller: the runtime computes in float

To add a method, add to the axes below; :func:`why_not` says which points of their product do not exist.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from gleanet.core.errors import SettingsError

Integer = Literal["uint8", "int8", "uint16", "int4", "none"]
Mode = Literal["static", "dynamic", "weights", "float16"]
Format = Literal["QDQ", "QOperator"]
Calibrator = Literal["min-max", "percentile", "entropy", "mse"]

CALIBRATORS: tuple[Calibrator, ...] = get_args(Calibrator)
TYPES: dict[str, tuple[Integer, Integer]] = {
    "u8s8": ("uint8", "int8"),
    "u8u8": ("uint8", "uint8"),
    "s8s8": ("int8", "int8"),
    "s8u8": ("int8", "uint8"),
    "u16s8": ("uint16", "int8"),
}


@dataclass(frozen=True)
class Method:
    """One way to quantize.

    Attributes:
        name: as in the module's text.
        activation, weight: integer types, "none" where that side stays float; int8 weights are symmetric (zero point 0), biases int32.
        per_channel: one weight scale per output channel.
        reduce_range: weights in 7 bits.
        float_head: leave the last linear layer in float.
        pad: widen convolutions with zero channels to what the runtime's kernels like.
        format: how a static method is written in the file.
        calibrator: how activation ranges are found; dynamic and size-only methods need none.
        mode: static and dynamic compute in integers; weights and float16 make the file smaller and nothing else.
    """

    name: str
    activation: Integer
    weight: Integer
    per_channel: bool = False
    reduce_range: bool = False
    float_head: bool = False
    pad: bool = False
    format: Format = "QDQ"
    calibrator: Calibrator = "min-max"
    mode: Mode = "static"

    @property
    def size_only(self) -> bool:
        return self.mode in ("weights", "float16")


def _named(types: str, *, calibrator: Calibrator = "min-max", qop: bool = False, dynamic: bool = False, **flags: bool) -> Method:
    """A method from its parts; ``flags`` are channel, seven, head and pad."""
    activation, weight = TYPES[types]
    words = [f"dynamic-{types}" if dynamic else types]
    words += [word for word, there in (("7bit", flags.get("seven")), ("channel", flags.get("channel"))) if there]
    words += [word for word in ("head", "pad") if flags.get(word)]
    words += [calibrator] if calibrator != "min-max" else []
    words += ["qop"] if qop else []
    return Method(
        name="-".join(words),
        activation=activation,
        weight=weight,
        per_channel=flags.get("channel", False),
        reduce_range=flags.get("seven", False),
        float_head=flags.get("head", False),
        pad=flags.get("pad", False),
        format="QOperator" if qop else "QDQ",
        calibrator=calibrator,
        mode="dynamic" if dynamic else "static",
    )


def _product() -> Iterator[Method]:
    """Every point of the axes, possible or not."""
    for types, seven, channel, calibrator, qop in itertools.product(TYPES, (False, True), (False, True), CALIBRATORS, (False, True)):
        yield _named(types, seven=seven, channel=channel, calibrator=calibrator, qop=qop)
    for channel, pad in itertools.product((False, True), (False, True)):
        for calibrator in CALIBRATORS:
            yield _named("u8s8", channel=channel, head=True, pad=pad, calibrator=calibrator)
    for types, seven, channel in itertools.product(TYPES, (False, True), (False, True)):
        yield _named(types, seven=seven, channel=channel, dynamic=True)
    yield Method("weights8", "none", "int8", mode="weights")
    yield Method("weights8-channel", "none", "int8", per_channel=True, mode="weights")
    yield Method("weights4", "none", "int4", mode="weights")
    yield Method("weights4-channel", "none", "int4", per_channel=True, mode="weights")
    yield Method("float16", "none", "none", mode="float16")


def why_not(method: Method) -> str:
    """Why ONNX Runtime has no such thing; empty where it has."""
    if method.activation == "int8" and method.weight == "uint8":
        return "ONNX Runtime has no kernels for int8 activations with uint8 weights"
    if method.mode == "dynamic":
        if method.activation != "uint8":
            return "DynamicQuantizeLinear, which finds ranges as it runs, gives uint8 and nothing else"
        if method.per_channel:
            return "ConvInteger takes one weight scale per tensor"
    if method.reduce_range and (method.activation, method.weight) != ("uint8", "int8"):
        return "7-bit weights help against saturated sums, which only uint8 activations with int8 weights have"
    if method.activation == "uint16":
        if method.format == "QOperator":
            return "QLinearConv and its kin take 8-bit types only; 16-bit activations exist as QDQ pairs"
        if method.calibrator != "min-max":
            return "65,536 levels leave nothing to gain by clipping: min-max is the range for 16-bit activations"
    return ""


METHODS: dict[str, Method] = {method.name: method for method in _product() if not why_not(method)}

# What is fast somewhere: ``auto`` times these, then tries the other calibrators on the fastest of them.
SHORTLIST: tuple[str, ...] = (
    "u8s8",
    "u8s8-channel",
    "u8s8-head",
    "u8s8-channel-head",
    "u8s8-head-pad",
    "u8s8-channel-head-pad",
    "u8s8-7bit",
    "u8s8-7bit-channel",
    "u8u8",
    "u8u8-channel",
    "s8s8",
    "s8s8-channel",
)


def impossible() -> dict[str, tuple[str, ...]]:
    """Reason -> the names of the combinations that do not exist for it."""
    found: dict[str, tuple[str, ...]] = {}
    for method in _product():
        if reason := why_not(method):
            found[reason] = (*found.get(reason, ()), method.name)
    return found


def with_calibrator(method: Method, calibrator: Calibrator) -> Method | None:
    """The same method with other ranges; None where that is no method."""
    if method.mode != "static":
        return None
    words = [word for word in method.name.split("-") if word not in ("qop", "percentile", "entropy", "mse")]
    words += [calibrator] if calibrator != "min-max" else []
    return METHODS.get("-".join([*words, "qop"] if method.format == "QOperator" else words))


def select(names: str) -> tuple[Method, ...]:
    """Methods by name: ``auto`` is the short list, ``all`` the whole grid, else a comma list, in the given order.

    Raises:
        SettingsError: a name that is not in the grid; the message says why, or lists those that are.
    """
    if names in ("auto", "all"):
        return tuple(METHODS[name] for name in SHORTLIST) if names == "auto" else tuple(METHODS.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if reason := next((reason for reason, group in impossible().items() if name in group), ""):
            raise SettingsError(f"there is no quantization method {name}: {reason}")
    unknown = [name for name in wanted if name not in METHODS]
    if unknown or not wanted:
        raise SettingsError(
            f"unknown quantization method {', '.join(unknown) or repr(names)}: use auto, all, or some of {', '.join(SHORTLIST)}, each also "
            f"with -percentile, -entropy, -mse and -qop; u16s8, dynamic-u8s8, dynamic-u8u8, weights8, weights4, float16"
        )
    return tuple(METHODS[name] for name in dict.fromkeys(wanted))
