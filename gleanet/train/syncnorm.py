"""Batch norm over the batch of all processes, on any device (torch's own ``SyncBatchNorm`` knows GPUs only).

S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, section 3 and the gradient there; the sums are those of all processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def shared_statistics(model: nn.Module) -> Iterator[None]:
    """In the block every batch norm of ``model`` in training mode normalises by mean and variance of the batch of all processes.

    The modules stay what they are, so that pruning and checkpoints know them: only their ``forward`` is another one. A subclass with a
    ``forward`` of its own is left alone.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward]
    for module in norms:
        module.__dict__["forward"] = MethodType(_forward, module)
    try:
        yield
    finally:
        for module in norms:
            del module.__dict__["forward"]


def _forward(module: _BatchNorm, x: Tensor) -> Tensor:
    if not module.training:
        return _BatchNorm.forward(module, x)
    module._check_input_dim(x)  # type: ignore[no-untyped-call]
    y, mean, variance, count = _Normalise.apply(x, module.weight, module.bias, module.eps)  # type: ignore[no-untyped-call]
    if module.running_mean is not None and module.running_var is not None and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        factor = module.momentum if module.momentum is not None else 1 / float(module.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        module.running_mean.mul_(1 - factor).add_(mean.to(module.running_mean.dtype), alpha=factor)
        module.running_var.mul_(1 - factor).add_(unbiased.to(module.running_var.dtype), alpha=factor)
    result: Tensor = y
    return result


class _Normalise(torch.autograd.Function):
    """x [B, C, ...], weight and bias [C] or None -> y like x; mean and variance float64 [C] and the count [] of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = _wide(x)
        dims, channels, own = [0, *range(2, x.dim())], x.shape[1], x.numel() // x.shape[1]
        if own:
            spread, middle = (each.double() for each in torch.var_mean(wide, dims, correction=0))
        else:  # this process has no image of a small last batch: it takes part with sums of nothing
            spread = middle = x.new_zeros(channels, dtype=torch.float64)
        sums = torch.cat([own * middle, own * (spread + middle.square()), middle.new_full((1,), own)])
        dist.all_reduce(sums)
        count = sums[-1]
        mean = sums[:channels] / count
        variance = (sums[channels:-1] / count - mean.square()).clamp(min=0)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.mark_non_differentiable(mean, variance, count)
        y = F.batch_norm(x, mean.to(wide.dtype), variance.to(wide.dtype), weight, bias, training=False, eps=eps) if own else x.clone()
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        wide, shape = _wide(x), (1, -1, *[1] * (x.dim() - 2))
        if x.numel():
            middle, spread = mean.to(wide.dtype), variance.to(wide.dtype)
            dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(  # as if mean and variance were constants
                gradients[0], x, weight, middle, spread, None, None, False, ctx.eps, [True, True, True]
            )
        else:
            dx = torch.zeros_like(x)
            dweight = dbias = wide.new_zeros(x.shape[1])
        sums = torch.cat([dbias.double(), dweight.double()])
        dist.all_reduce(sums)
        if x.numel():  # and what they add, because they are not
            along_bias, along_weight = (sums / count).chunk(2)
            inverse = (variance + ctx.eps).rsqrt()
            scale = inverse if weight is None else inverse * weight
            offset, slope = ((each).to(wide.dtype).view(shape) for each in (scale * along_bias, scale * inverse * along_weight))
            dx = (_wide(dx) - offset).addcmul_(wide - middle.view(shape), slope, value=-1).to(dx.dtype)
        return dx, None if weight is None else dweight, None if weight is None else dbias, None


def _wide(x: Tensor) -> Tensor:
    """Half-precision values as float32, others as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
