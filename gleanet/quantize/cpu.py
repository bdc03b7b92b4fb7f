"""What an instruction set means for integer networks, in a sentence (ONNX Runtime's documentation, "Quantize ONNX models": data types)."""

from collections.abc import Collection

_X86_DOT = ("AVX512_VNNI", "AVX_VNNI", "AMX_INT8")
_ARM_DOT = ("I8MM", "DOTPROD")


def about(isa: Collection[str], arch: str) -> str:
    """Which integer types a CPU has fast instructions for.

    Args:
        isa: names as in :func:`gleanet.core.host.machine`.
        arch: ``platform.machine()``.
    """
    if arch.lower() in ("aarch64", "arm64"):
        dot = next((name for name in _ARM_DOT if name in isa), None)
        if dot:
            return f"This CPU has {dot}: sums of 8-bit products are taken in 32 bits, so nothing saturates and integer layers can be fast."
        return "This CPU has NEON without dot products of bytes: nothing saturates, but integer layers gain less than on newer ones."
    dot = next((name for name in _X86_DOT if name in isa), None)
    if dot:
        return f"This CPU has {dot}: it adds uint8 by int8 products in 32 bits, so 8-bit weights cannot saturate and u8s8 is its fast form."
    if "AVX2" in isa:
        return (
            "This CPU has AVX2 without VNNI: it adds pairs of uint8 by int8 products in 16 bits, which saturates where weights are large; "
            "7-bit weights (-7bit) or uint8 weights (u8u8) avoid that."
        )
    return "This CPU has neither AVX2 nor byte products that ONNX Runtime knows of: integer layers may be slower than float ones."
