"""Integer sums in floating-point registers: exact as long as no sum leaves the mantissa."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SINGLE", "accumulator", "wrapped"]

SINGLE = float(1 << 24)
"""Every integer up to this size is a float32, and so is every partial sum below it."""


def accumulator(weight: Tensor, bias: Tensor | None, amplitude: float | None) -> torch.dtype:
    """Return the type in which a layer's sums are exact.

    Args:
        weight: (outputs, ...) integers, zero points taken off; or any numbers.
        bias: (outputs,) integers, or None.
        amplitude: The largest size of an input, zero point taken off; None for a layer that
            computes in floating point, whose sums are not exact anyway.
    """
    if amplitude is None:
        return torch.float32
    sums = weight.abs().flatten(1).sum(1, dtype=torch.float64) * amplitude
    if bias is not None:
        sums = sums + bias.abs()
    return torch.float32 if float(sums.max()) < SINGLE else torch.float64


def wrapped(sums: Tensor) -> Tensor:
    """Return what a register of 32 bits holds of these integers; float32 sums all fit."""
    if sums.dtype is not torch.float64:
        return sums
    half, whole = float(1 << 31), float(1 << 32)
    return torch.remainder(sums + half, whole) - half
