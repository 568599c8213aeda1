"""Upper bounds of how much linear maps stretch: never below the largest singular value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["convolution", "matrix"]

_SLACK = 1 + 1e-4  # for the rounding of the decompositions themselves
_LARGEST = 1024  # rows or columns: above, singular values take too long and norms must do
_POINTS = 32  # frequencies along one dimension at most
_AT_ONCE = 1 << 22  # numbers of the matrices that are decomposed together


def matrix(weight: Tensor) -> float:
    """Return an upper bound of the largest singular value of (outputs, inputs)."""
    if min(weight.shape) > _LARGEST:  # Hoelder's inequality between the two norms
        size = weight.abs()
        return math.sqrt(float(size.sum(0).max()) * float(size.sum(1).max())) * _SLACK
    return float(torch.linalg.matrix_norm(weight.float(), ord=2)) * _SLACK


def convolution(weight: Tensor, size: Sequence[int]) -> tuple[float, Tensor]:
    """Return how much a convolution with zero padding stretches at most, of any stride.

    With padding it is a part of the circular convolution on a torus of size + kernel - 1, whose
    singular values are those of the kernel's Fourier transform at the torus's frequencies (Sedghi,
    Gupta and Long, "The singular values of convolutional layers", ICLR 2019, theorem 6); a stride
    leaves outputs away. Where the torus is large, the transform is taken at fewer frequencies: the
    transform of k taps is of exponential type (k - 1) / 2, so between points pi / n from the next
    one it rises by Bernstein's inequality to no more than 1 / (1 - pi / n * (k - 1) / 2) times the
    largest value at these points, with a sum over the dimensions.

    Args:
        weight: (outputs, inputs, height, width), without groups.
        size: Height and width of the input with its padding.

    Returns:
        A bound for changes of any inputs, and one for changes of each input channel alone,
        (inputs,).
    """
    taps = weight.shape[2:]
    torus = [n + k - 1 for n, k in zip(size, taps, strict=True)]
    rise = 0.0
    points = list(torus)
    for d, k in enumerate(taps):
        least = max(_POINTS, 4 * (k - 1))
        if torus[d] > least:
            points[d] = least
            rise += math.pi / least * (k - 1) / 2
    if rise >= 0.9 or min(points) < max(taps):  # noqa: PLR2004 - next to no bound is left
        total = weight.abs().sum((2, 3))
        return matrix(total), total.square().sum(0).sqrt() * _SLACK
    factor = _SLACK / (1 - rise)
    # frequencies come in conjugate pairs
    transform = torch.fft.rfft2(weight.float(), s=points).permute(2, 3, 0, 1).flatten(0, 1)
    alone = transform.abs().square().sum(1).amax(0).sqrt() * factor
    if min(weight.shape[:2]) > _LARGEST:
        size_of = transform.abs()
        both = (size_of.sum(1).amax(1) * size_of.sum(2).amax(1)).sqrt().max()
        return float(both) * factor, alone
    step = max(1, _AT_ONCE // transform[0].numel())
    largest = max(
        float(torch.linalg.matrix_norm(part, ord=2).max()) for part in transform.split(step)
    )
    return largest * factor, alone
