"""Running a network for its shapes alone: its own code runs, its layers compute nothing.

At 224 x 224 pixels the values are nearly all the time of a forward pass, and counting, finding groups and checking widths need none of
them. (The meta device would do the same, but half of its kernels are Python, and the first of them imports torch._dynamo.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from gleanet.nn.activations import is_activation
from gleanet.nn.narrow import CONVS, NORMS, TRANSPOSED

SCALING = (*NORMS, nn.GroupNorm)
KINDS: tuple[type[nn.Module], ...] = (*CONVS, *TRANSPOSED, nn.Linear, *SCALING)


@contextmanager
def shapes_only(model: nn.Module) -> Iterator[None]:
    """Inside it, convolutions and linear layers give zeros of the shape that they would give; norms and activations their input.

    Where an input does not fit a layer's tensors, the layer runs as ever and says so. Hooks run. Afterwards everything is as it was.
    """
    idle = [module for module in model.modules() if "forward" not in module.__dict__ and (is_plain(module) or _is_fixed_activation(module))]
    for module in idle:
        module.__dict__["forward"] = partial(_without_values, module, type(module).forward)
    try:
        yield
    finally:
        for module in idle:
            del module.__dict__["forward"]


def is_plain(module: nn.Module) -> bool:
    """Whether it is a layer of ``KINDS``, or a subclass of one that computes what the layer computes."""
    return any(
        isinstance(module, kind)
        and all(getattr(type(module), name) is getattr(kind, name) for name in ("forward", "_conv_forward") if hasattr(kind, name))
        for kind in KINDS
    )


def _is_fixed_activation(module: nn.Module) -> bool:
    return is_activation(module) and next(module.parameters(), None) is None


def _without_values(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        x = args[0]
        if isinstance(module, SCALING):
            entries = [*module.parameters(recurse=False), *(b for b in module.buffers(recurse=False) if b.dim() == 1)]
            if x.dim() > 1 and all(len(entry) == x.shape[1] for entry in entries):
                return x
        elif isinstance(module, (*CONVS, *TRANSPOSED, nn.Linear)):
            shape = _output_shape(module, x)
            if shape is not None:
                return x.new_zeros(shape)
        else:
            return x
    return forward(module, *args, **kwargs)


def _output_shape(module: nn.Module, x: Tensor) -> tuple[int, ...] | None:
    """From the sizes of the layer's tensors; None where they do not fit the input."""
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Linear):
        fits = x.shape[-1:] == weight.shape[1:]
        out, shape = weight.shape[0], (*x.shape[:-1], weight.shape[0])
    else:
        assert isinstance(module, (*CONVS, *TRANSPOSED))
        out, in_ = weight.shape[0], weight.shape[1] * module.groups
        if isinstance(module, TRANSPOSED):
            out, in_ = in_, out
        positions = _positions(module, tuple(x.shape[2:])) if x.dim() == weight.dim() else ()
        fits = x.dim() == weight.dim() and x.shape[1] == in_ and out % module.groups == 0 and min(positions) > 0
        shape = (x.shape[0], out, *positions)
    fits = fits and x.dtype == weight.dtype and (bias is None or len(bias) == out)  # type: ignore[arg-type]
    return shape if fits else None


def _positions(module: nn.Module, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Output positions along each dimension: the formulas in torch's documentation of Conv2d and ConvTranspose2d."""
    assert isinstance(module, (*CONVS, *TRANSPOSED))
    if module.padding == "same":
        return sizes
    padding = (0,) * len(sizes) if isinstance(module.padding, str) else module.padding
    result = []
    for dim, (size, kernel, stride, pad, dilation) in enumerate(
        zip(sizes, module.kernel_size, module.stride, padding, module.dilation, strict=True)
    ):
        reach = dilation * (kernel - 1)
        if isinstance(module, TRANSPOSED):
            result.append((size - 1) * stride - 2 * pad + reach + module.output_padding[dim] + 1)
        else:
            result.append((size + 2 * pad - reach - 1) // stride + 1)
    return tuple(result)
