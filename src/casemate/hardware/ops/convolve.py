"""Convolution in bounded memory, in single and in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["convolve"]

_COLUMNS = 1 << 21  # numbers: 16 MiB


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int = 1,
) -> Tensor:
    """Return what `torch.nn.functional.conv2d` does.

    On the CPU torch unrolls the inputs of a convolution in double precision, each number once for
    every tap that sees it and all of a batch at once; so a few inputs run at a time.

    Args:
        x: (n, inputs, height, width).
        weight: (outputs, inputs / groups, rows, columns).
        bias: (outputs,).
        stride: Rows and columns, as the next.
        padding: On each side.
        dilation: Of the taps.
        groups: As torch has them.
    """
    if x.dtype is not torch.float64 or x.is_cuda:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    taps = weight.shape[2] * weight.shape[3]
    places = x.shape[2:].numel() // (stride[0] * stride[1])
    step = max(1, _COLUMNS // max(1, x.shape[1] * taps * places))
    parts = [
        F.conv2d(p, weight, bias, stride, padding, dilation, groups) for p in torch.split(x, step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
