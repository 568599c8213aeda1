"""What eight bits hold of a number, and the gradient that passes straight through rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["HIGH", "LOW", "held", "rounded"]

LOW, HIGH = -128.0, 127.0
"""The lowest and the highest integer."""


def held(scaled: Tensor, zero: Tensor, *, relu: bool = False) -> Tensor:
    """Return what eight bits hold of numbers in units of the output.

    Args:
        scaled: Any shape.
        zero: (1,) integer that stands for 0.
        relu: Whether negative numbers become 0.
    """
    moved = rounded(scaled).nan_to_num_(0.0, torch.inf, -torch.inf).add_(zero)
    moved.clamp_(LOW, HIGH)
    return torch.maximum(moved, zero) if relu else moved


def rounded(x: Tensor) -> Tensor:
    """Return the nearest integers, ties to even, through which a gradient passes as it is."""
    if torch.is_grad_enabled() and x.requires_grad:
        made: Tensor = _Rounding.apply(x)  # type: ignore[no-untyped-call]
        return made
    return x.round()


class _Rounding(torch.autograd.Function):
    """Rounding with the slope of the identity (Bengio et al., arXiv 1308.3432)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        del ctx
        return grad
