"""Batch normalization without the sums that an attack would throw away.

In evaluation mode batch normalization is one scale and one shift a channel, so the gradient of its
input is the incoming gradient times the scale. torch's backward pass also reads the input again
and sums over the batch for the parameters' gradients, whether they are wanted or not. On a VGG of
small images that is a tenth of a gradient step, and the input need not be kept for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["light_batch_norm"]

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def light_batch_norm(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Give batch normalization layers the short backward pass while inside.

    Outputs stay bit for bit what they are, gradients up to rounding. Where a layer is in training
    mode, its parameters want gradients, it has no running statistics or is mapped over samples
    (`torch.func`), it does what it always does; so do layers of a class of their own, and all
    layers of a model that is compiled or spread over devices.

    Args:
        modules: The models under attack.
    """
    every = {id(m): m for root in modules for m in root.modules()}.values()
    layers = [m for m in every if type(m) in _KINDS and "forward" not in vars(m)]
    if any(isinstance(m, nn.DataParallel) or _compiled(m) for m in every):
        layers = []
    try:
        for layer in layers:
            vars(layer)["forward"] = partial(_forward, layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _compiled(module: nn.Module) -> bool:
    # a graph made earlier would be made anew, with this layer in it
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None  # noqa: SLF001 - torch has no public way to ask


def _forward(layer: nn.Module, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        getattr(layer, name) for name in ("running_mean", "running_var", "weight", "bias")
    )
    wanted = any(t is not None and t.requires_grad for t in (weight, bias))
    mapped = torch._C._are_functorch_transforms_active()  # noqa: SLF001 - as torch itself asks
    plain = layer.training or mean is None or variance is None or wanted or mapped
    if plain or not x.requires_grad:
        usual: Tensor = type(layer).forward(layer, x)
        return usual
    layer._check_input_dim(x)  # type: ignore[operator] # noqa: SLF001 - as its own forward does
    out: Tensor = _Scale.apply(x, mean, variance, weight, bias, layer.eps)  # type: ignore[no-untyped-call] # torch's stub
    return out


class _Scale(torch.autograd.Function):
    """torch's own evaluation-mode batch normalization, with the gradient of its input alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        # the form without `setup_context`: torch inspects signatures at every call of the other
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(scale if weight is None else scale * weight)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        shaped = scale.to(gradient.dtype).view(-1, *(1,) * (gradient.ndim - 2))
        return gradient * shaped, None, None, None, None, None
