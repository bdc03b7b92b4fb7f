"""Sizes that a network's code decides by while it is traced: guards, loops over a shape, ``range(x.size(1))``.

``torch.fx`` records what code does to stand-ins for tensors. Where the code wants to know a size, the nodes recorded so far are run on the
example for their shapes alone. What depends on the values of tensors stays refused.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import _symbolic_trace

from gleanet.core.errors import ModelError
from gleanet.nn.activations import is_activation
from gleanet.nn.blame import explain
from gleanet.nn.dry import is_plain, shapes_only

MEASURING = frozenset({"size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "element_size"})
ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad", "itemsize", "layout"})
DECIDES = "decides"  # in the meta of nodes whose value the traced code took as a number or a condition


class _Sized(fx.Proxy):
    """A stand-in that knows its size."""

    def __getattr__(self, name: str) -> "_SizedAttribute":
        return _SizedAttribute(self, name)

    def __len__(self) -> int:
        return len(_tracer(self).known(self.node))

    def __index__(self) -> int:
        return _tracer(self).decided(self).__index__()  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return int(_tracer(self).decided(self))

    def __format__(self, spec: str) -> str:
        value = _tracer(self).known(self.node)  # in the network's own error messages
        return repr(self) if isinstance(value, Tensor) else format(value, spec)

    def __float__(self) -> float:
        return float(_tracer(self).decided(self))


class _SizedAttribute(_Sized, fx.proxy.Attribute):
    """``x.shape``, ``x.ndim``, or a method before it is called."""


def _tracer(proxy: fx.Proxy) -> "SizeTracer":
    tracer = proxy.tracer
    assert isinstance(tracer, SizeTracer)
    return tracer


class SizeTracer(fx.Tracer):
    """Layers of torch and of ours stay whole; a user's own modules are followed inside, except those named ``opaque``.

    Args:
        example: one image as the network takes it; whatever code asks for sizes gets those of this image.
        opaque: paths of modules that are not followed inside; ``failed`` is the path of one that could not be.
    """

    def __init__(self, example: Tensor, opaque: set[str]) -> None:
        super().__init__()
        self.example, self.opaque = example, opaque
        self.failed: str | None = None
        self._values: dict[fx.Node, Any] = {}
        self._running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.opaque or is_activation(m) or is_plain(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None and not any(True for _ in m.children()):
                self.failed = self.path_of_module(m)
            raise

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.decided(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.known(obj.node)
        stand_in: Any = obj
        return iter([stand_in[index] for index in range(len(value))]) if isinstance(value, (tuple, list)) else super().iter(obj)

    def decided(self, obj: fx.Proxy) -> Any:
        """The value that code decides by.

        Raises:
            TraceError: it depends on more than sizes.
        """
        if not self._is_size(obj.node):
            return super().to_bool(obj)  # raises
        value = self.known(obj.node)
        obj.node.meta[DECIDES] = True
        return value

    def known(self, node: fx.Node) -> Any:
        """The value of a node for the example; tensors have their true shapes and other values."""
        self._running = True
        try:
            with shapes_only(self.root), torch.no_grad():
                for each in self.graph.nodes:
                    if each not in self._values:
                        self._values[each] = self._run(each)
        except Exception as error:  # as the network's own code
            shape = list(self.example.shape)
            raise ModelError(f"cannot run {explain(self.root, error)} (the example input is {shape})") from error
        finally:
            self._running = False
        return self._values[node]

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            first = next(each for each in self.graph.nodes if each.op == "placeholder")
            return self.example if node is first else next(iter(node.args), None)
        if node.op == "get_attr":
            value: Any = self.root
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return value
        args: Any = fx.node.map_arg(node.args, lambda parent: self._values[parent])
        kwargs: Any = fx.node.map_arg(node.kwargs, lambda parent: self._values[parent])
        if node.op == "call_module":
            return _symbolic_trace._orig_module_call(self.root.get_submodule(str(node.target)), *args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _is_size(self, node: fx.Node) -> bool:
        if node.op in ("placeholder", "get_attr", "call_module"):
            return False
        if node.op == "call_method" and node.target in MEASURING:
            return True
        if node.op == "call_function" and node.target is getattr and node.args[1] in ATTRIBUTES:
            return True
        return all(self._is_size(parent) for parent in node.all_input_nodes)
