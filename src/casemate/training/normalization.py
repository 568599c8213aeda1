"""Mean and standard deviation of training data, as preprocessing of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.target import Preprocessing

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset

__all__ = ["normalization"]

_CHUNK = 2048


def normalization(data: Dataset) -> Preprocessing:
    """Return preprocessing that gives each channel (or feature) mean 0 and deviation 1.

    Two passes over the data in chunks, in float64; a channel that never varies is only centered.

    Raises:
        UsageError: If an input is not finite.
    """
    axes = (0, 2, 3) if data.domain.is_image else (0,)
    per_channel = len(data) * data.domain.size // data.domain.shape[0]
    mean = torch.zeros(data.domain.shape[0], dtype=torch.float64)
    for start in range(0, len(data), _CHUNK):
        mean += data.batch(slice(start, start + _CHUNK)).double().sum(dim=axes)
    mean /= per_channel
    if not bool(mean.isfinite().all()):
        raise UsageError(f"{data.name}: inputs hold NaN or infinite values; remove those samples")
    square = torch.zeros_like(mean)
    spread = (1, -1) + (1,) * (len(data.domain.shape) - 1)
    for start in range(0, len(data), _CHUNK):
        part = data.batch(slice(start, start + _CHUNK)).double()
        square += part.sub_(mean.view(spread)).square_().sum(dim=axes)
    std = (square / per_channel).sqrt()
    # below a millionth of the domain's width a channel is constant up to rounding
    std = torch.where(std < 1e-6 * data.domain.width, torch.ones_like(std), std)
    return Preprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
