"""A network as a graph: the one place that talks to ``torch.fx``."""

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gleanet.core.errors import ModelError

ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


class _Tracer(fx.Tracer):
    """Modules without children stay whole, so that their paths in the graph are the network's own, whoever wrote them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not any(True for _ in m.children())


def trace(model: nn.Module, example_input: torch.Tensor) -> fx.GraphModule:
    """Trace ``model`` and note the shape of every value in ``node.meta["tensor_meta"]``; one image of the example is enough.

    Args:
        model: the network; its modules are shared with the result, its mode is left as it was.
        example_input: float [N, C, H, W], on the device of the model.

    Raises:
        ModelError: attention (channels of heads cannot be told from code), control flow that ``torch.fx`` cannot follow, or an
            input that the network does not accept.
    """
    for path, module in model.named_modules():
        if isinstance(module, ATTENTION):
            raise ModelError(f"{path} is {type(module).__name__}: gleanet prunes convolutional networks, not attention")
    was_training = model.training
    model.eval()
    try:
        graph = _Tracer().trace(model)
        graph_module = fx.GraphModule(model, graph)
        with torch.no_grad():
            ShapeProp(graph_module).propagate(example_input[:1])
    except ModelError:
        raise
    except Exception as error:  # fx and user code raise anything here; the user needs the sentence, not the family
        raise ModelError(_explain(model, error)) from error
    finally:
        model.train(was_training)
    return graph_module


def _explain(model: nn.Module, error: BaseException) -> str:
    """One line: what failed and the line of the user's own code nearest to it."""
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if "/torch/" not in file and "/gleanet/prune/" not in file and not file.startswith("<"):
            place = f" at {file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"cannot trace {type(model).__name__}{place}: {first_line}; make its forward free of data-dependent control flow"
