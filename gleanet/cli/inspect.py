"""``inspect``: what a file is, before anything is done to it."""

from typing import TYPE_CHECKING, Annotated

import typer

from gleanet.cli import options as o
from gleanet.cli.terminal import TerminalProgress, print_facts, print_json, print_table, print_text
from gleanet.report import Table

if TYPE_CHECKING:
    from gleanet.measure.inspect import Layer

WIDTH = 16


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An ONNX file, also one not made here, or a .gleanet checkpoint.")],
    json: o.Json = False,
) -> int:
    """What a file holds: versions, inputs, layers and their costs, what quantization would do to it, what will give trouble.

    Example: [bold]gleanet inspect runs/demo/model.int8.onnx[/]
    """
    import gleanet.pipeline as pipeline

    with TerminalProgress() as progress:
        found = pipeline.inspect(file, progress=progress)
    if json:
        print_json(found)
        return 0
    shown, plan = found.structure, found.quantization
    print_text(f"{shown.file}: {shown.bytes:,} bytes, opset {shown.opset}, IR version {shown.ir_version}, by {shown.producer or 'unknown'}")
    batch = "any batch" if shown.batch is None else f"batch {shown.batch}"
    lines = [("input", f"{v.name} {v.type} {_shape(v.shape)}, {shown.layout}, {batch}") for v in shown.inputs]
    lines += [("output", f"{v.name} {v.type} {_shape(v.shape)}") for v in shown.outputs]
    lines += [("other operators", ", ".join(f"{name} {version}" for name, version in shown.domains.items()))]
    lines += [("nodes", ", ".join(f"{kind} {count}" for kind, count in shown.nodes.items()))]
    lines += [("cost", f"{shown.macs:,} MACs an image, {shown.params:,} parameters")]
    lines += [("external data", ", ".join(shown.external)), ("quantized", shown.quantized or "no")]
    if plan is not None and plan.possible:
        stays = [f"{name} ({why})" for name, why in (plan.stays_float or {}).items()]
        stays += [f"{kind} x {count}" for kind, count in (plan.other_nodes or {}).items()]
        lines += [("would become", f"{len(plan.integer)} of {len(plan.integer) + len(plan.stays_float or {})} layers 8-bit")]
        lines += [("stays float", ", ".join(stays))]
    lines += [("note", line) for line in (*shown.trouble, *(() if plan is None else plan.trouble))]
    print_facts(((name, text) for name, text in lines if text), WIDTH)
    if shown.layers:
        print_table(_layer_table(shown.layers), last=("Type", "Parameters", "Share", "Weights"))
    return 0


def _layer_table(layers: "tuple[Layer, ...]") -> Table:
    return Table(
        header=("Layer", "Kind", "Weights", "Type", "MACs", "Share", "Parameters"),
        cells=tuple(
            (v.name, v.kind, " x ".join(map(str, v.weight)), v.dtype, f"{v.macs:,}", f"{100 * v.share:.1f} %", f"{v.params:,}")
            for v in layers
        ),
    )


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
