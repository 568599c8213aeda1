"""Inputs with their labels: what an attacker has, and what an attack is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.random import Stream

__all__ = ["Samples"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs as the deployed network gets them, behind any preprocessing.

    Attributes:
        x: (n, *shape) float32.
        labels: (n,) int64, their classes.

    Raises:
        UsageError: If there are none, or not one label an input.
    """

    x: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if not len(self.x) or self.labels.shape != self.x.shape[:1]:
            raise UsageError(
                f"an attack needs inputs with one label each, and got {len(self.x)} inputs and "
                f"labels of shape {tuple(self.labels.shape)}; give at least one of both"
            )

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> Samples:
        """Return some of them.

        Args:
            index: (k,) positions, or (n,) bool.
        """
        return Samples(x=self.x[index], labels=self.labels[index])

    def drawn(self, count: int, rng: Stream) -> Samples:
        """Return `count` of them at random without repetition; all, if there are not so many."""
        order = torch.from_numpy(rng.numpy().permutation(len(self)))
        return self.at(order[:count])

    def __add__(self, other: Samples) -> Samples:
        """Return these and then the others."""
        return Samples(
            x=torch.cat([self.x, other.x]), labels=torch.cat([self.labels, other.labels])
        )
