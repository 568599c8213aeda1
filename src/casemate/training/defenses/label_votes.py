"""Votes of labels: how many of a sample's likes carry its label, and how many another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["contradicted", "numbered", "own_and_other", "votes_within"]


def contradicted(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,) bool, who is not in a majority of its own, and (n,) float32, the others' share.

    Args:
        own: (n,) int64, how many likes have the sample's label, itself counted.
        other: (n, 2) int64, how many have the most frequent other label, and any other one.
    """
    return own <= other[:, 0], other[:, 1] / (own + other[:, 1])


def own_and_other(votes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,) votes for the label, and (n, 2) for the best other one and for all others."""
    own = votes.gather(1, labels[:, None])
    rest = votes.scatter(1, labels[:, None], 0)
    return own.squeeze(1), torch.stack([rest.amax(1), rest.sum(1)], dim=1)


def votes_within(units: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return `own_and_other` of units, numbered from 0, whose samples are likes."""
    count = int(units.max()) + 1 if len(units) else 0
    votes = torch.bincount(units * classes + labels, minlength=count * classes)
    return own_and_other(votes.view(count, classes)[units], labels)


def numbered(values: Tensor) -> Tensor:
    """Return (n,) int64 numbers from 0, the same for equal values (or rows)."""
    numbers = np.unique(values.numpy(), axis=0, return_inverse=True)[1]
    return torch.from_numpy(numbers.reshape(-1))
