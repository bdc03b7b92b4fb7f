"""What the inserter leaves is made small and readable: short names, no doubled constants, the source's metadata."""

import itertools

import onnx
from onnx import numpy_helper

_ADDED = {"QuantizeLinear": "q", "DequantizeLinear": "d"}


def compact(model: onnx.ModelProto, prepared: onnx.ModelProto) -> None:
    """In place: one of each set of equal scales and zero points, short names for what the inserter added, no inferred shapes.

    Layers, their weights and outputs keep their names. QuantizeLinear and DequantizeLinear nodes have none; tensors that were added are
    ``qN`` (integer), ``dN`` (back in float) and ``tN`` (between the parts of what was one layer), constants ``cN``.
    """
    graph = model.graph
    own = {tensor.name for tensor in prepared.graph.initializer}
    layers = {node.name for node in prepared.graph.node}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    tensors = {name for node in prepared.graph.node for name in node.output}
    taken = own | fixed | {name for node in graph.node for name in (*node.input, *node.output)}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _ADDED:
            node.name = ""
        elif node.name.removesuffix("_quant") in layers:  # integer operators are called after the layer they replace
            node.name = node.name.removesuffix("_quant")
        for output in node.output:
            if output and output not in fixed and (node.op_type in _ADDED or output not in tensors):
                names[output] = _fresh(_ADDED.get(node.op_type, "q" if output.endswith("_quantized") else "t"), taken)
        del node.metadata_props[:]
        node.doc_string = ""
    _constants(graph, own, names, taken)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.value_info[:]


def _constants(graph: onnx.GraphProto, own: set[str], names: dict[str, str], taken: set[str]) -> None:
    """In place: the model's own weights under their names, one of each set of equal constants that were added; new names into ``names``."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    kept: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        original = tensor.name.removesuffix("_quantized")
        name = tensor.name if tensor.name in own else original
        if name not in own:  # a scale, a zero point, or a bias that had to be doubled
            key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            name = first[key] if key in first else first.setdefault(key, _fresh("c", taken))
        names[tensor.name] = name
        kept.setdefault(name, onnx.TensorProto.FromString(tensor.SerializeToString())).name = name
    del graph.initializer[:]
    graph.initializer.extend(kept.values())


def _fresh(prefix: str, taken: set[str]) -> str:
    """The first free name of ``prefix0, prefix1, ...``, taken from now on."""
    name = next(name for name in (f"{prefix}{i}" for i in itertools.count()) if name not in taken)
    taken.add(name)
    return name


def stamp(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    model.metadata_props.extend(source.metadata_props)
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.graph.name, model.graph.doc_string, model.doc_string = source.graph.name, "", ""
    model.ir_version = max(source.ir_version, 7)  # 7 came with opset 13's predecessors; nothing newer is used
    used = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    kept = {entry.domain: entry.version for entry in imports}
    del model.opset_import[:]
    for domain, version in kept.items():
        model.opset_import.add(domain=domain, version=version)
