"""A network as a graph: the one place that talks to ``torch.fx``."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gleanet.core.errors import ModelError
from gleanet.nn.blame import explain
from gleanet.nn.dry import shapes_only
from gleanet.nn.narrow import BATCH_NORMS
from gleanet.nn.sizing import SizeTracer
from gleanet.nn.usable import usable

ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)
ATTENTION_CALLS = ("scaled_dot_product_attention", "multi_head_attention_forward")
PRODUCTS = ("matmul", "bmm", "einsum", "baddbmm")


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module has the mode it had, also those that differ from their parents."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def trace(model: nn.Module, example_input: torch.Tensor) -> fx.GraphModule:
    """Trace ``model`` and note the shape of every value in ``node.meta["tensor_meta"]``; one image of the example is enough.

    Args:
        model: the network; its modules are shared with the result, its modes are left as they were.
        example_input: float [N, C, H, W], on the device of the model.

    Raises:
        ModelError: attention (channels of heads cannot be told from code), control flow that ``torch.fx`` cannot follow, or an
            input that the network does not accept.
    """
    model = usable(model)
    for path, module in model.named_modules():
        if isinstance(module, ATTENTION):
            raise ModelError(f"{path or 'the network'} is {type(module).__name__}: {_NO_ATTENTION}", slug="model-trace")
    with evaluating(model), _attributes_kept(model):
        try:
            traced = fx.GraphModule(model, _graph(model, example_input[:1]))
        except ModelError:
            raise
        except Exception as error:  # fx and user code raise anything here; the user needs the sentence, not the family
            why = "torch.fx cannot follow code whose course, or whose new tensors' sizes, depend on the input"
            raise ModelError(f"cannot trace {explain(model, error)} ({why})", slug="model-trace") from error
        _refuse_attention(traced)
        try:
            with shapes_only(model):
                ShapeProp(traced).propagate(example_input[:1])
        except Exception as error:  # as above
            raise ModelError(f"cannot run {explain(model, error)} (the example input is {list(example_input.shape)})") from error
    return traced


_NO_ATTENTION = "gleanet prunes convolutional networks and refuses attention, whose heads it cannot tell from code"


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards no module holds what its forward method noted on it in the meantime: stand-ins for tensors, or blank outputs."""
    before = [(module, dict(module.__dict__)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)


def _graph(model: nn.Module, example: Tensor) -> fx.Graph:
    """Trace; a module of the user's own that cannot be followed inside, and holds no other modules, is then kept whole."""
    optional = {
        name: parameter.default
        for name, parameter in list(inspect.signature(model.forward).parameters.items())[1:]
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and parameter.default is not inspect.Parameter.empty
    }
    opaque: set[str] = set()
    while True:
        tracer = SizeTracer(example, opaque)
        try:
            return tracer.trace(model, concrete_args=optional)
        except Exception:
            if tracer.failed is None or tracer.failed in opaque:
                raise
            opaque.add(tracer.failed)


def _refuse_attention(traced: fx.GraphModule) -> None:
    """Attention written with calls: torch's own function, or a softmax of a product of two activations."""
    modules = dict(traced.named_modules())
    products: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        name = type(modules[str(node.target)]).__name__.lower() if node.op == "call_module" else call_name(node)
        if name in ATTENTION_CALLS or (name == "softmax" and any(parent in products for parent in node.all_input_nodes)):
            raise ModelError(
                f"{type(traced).__name__ if not node.target else 'the network'} calls {name} as attention does: {_NO_ATTENTION}",
                slug="model-trace",
            )
        if name in PRODUCTS or (node.op != "call_module" and any(parent in products for parent in node.all_input_nodes)):
            products.add(node)


def call_name(node: fx.Node) -> str:
    """The bare name of the function or method that a node calls: "relu", "add", "getitem"."""
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target))


def calls(traced: fx.GraphModule) -> dict[str, int]:
    """How often each module is called, by path."""
    counts: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            counts[str(node.target)] = counts.get(str(node.target), 0) + 1
    return counts


def batch_norms_behind(traced: fx.GraphModule) -> dict[str, str]:
    """Path of the batch-norm with running statistics that alone reads a layer's output, by the layer's path; both are called once."""
    modules, counts = dict(traced.named_modules()), calls(traced)
    result = {}
    for node in traced.graph.nodes:
        users = list(node.users)
        if node.op == "call_module" and counts[str(node.target)] == 1 and len(users) == 1 and users[0].op == "call_module":
            path = str(users[0].target)
            norm = modules[path]
            if isinstance(norm, BATCH_NORMS) and norm.running_mean is not None and counts[path] == 1:
                result[str(node.target)] = path
    return result
