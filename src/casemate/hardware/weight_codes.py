"""Weights as integers with a scale and, if affine, a zero point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.hardware.memory import region

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.formats import NumberFormat
    from casemate.hardware.memory import Region

__all__ = ["quantized_weight"]


def quantized_weight(
    name: str, weight: Tensor, layer: str, form: NumberFormat, least: Tensor | None = None
) -> list[Region]:
    """Return the regions of integer weights: themselves, their scale, and a zero point if affine.

    Symmetric: scale = max(abs(w)) / (2**(bits-1) - 1), and the lowest integer is not used. Affine:
    scale = (max(w, 0) - min(w, 0)) / (2**bits - 1).

    Args:
        name: Of the tensor.
        weight: (outputs, ...) in floating point.
        layer: That it belongs to.
        form: Integer format.
        least: (outputs,) float64, no scale may be smaller, so that what is in its unit fits.
    """
    rows = weight.detach().double().flatten(1)
    if form.granularity == "tensor":
        rows = rows.reshape(1, -1)
    bits = 8 if form.name == "int8" else 4
    top = (1 << (bits - 1)) - 1
    low, high = rows.amin(1).clamp_max(0), rows.amax(1).clamp_min(0)
    if form.scheme == "symmetric":
        scale = torch.maximum(-low, high) / top
    else:
        scale = (high - low) / (2 * top + 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if least is not None:
        scale = torch.maximum(scale, least.amax() if len(scale) == 1 else least)
    scale = scale.float()
    found = []
    zero = torch.zeros_like(scale)
    if form.scheme == "affine":
        zero = (-(top + 1) - low / scale).round().clamp(-(top + 1), top)
        found.append(region(f"{name}.zero", zero, form.name, layer=layer, role="zero point"))
    shape = (-1, *[1] * (weight.ndim - 1))
    codes = (weight.detach().double() / scale.double().view(shape)).round() + zero.view(shape)
    return [
        region(name, codes, form.name, layer=layer, role="weight"),
        region(f"{name}.scale", scale, "float32", layer=layer, role="scale"),
        *found,
    ]
