"""What limits the bits that an attacker can flip, such as a map of weak cells of a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.memory import Memory, Region

__all__ = ["Constraint", "allowed_bits"]

_BITS = 1 << 20  # that are asked about at once


class Constraint(Protocol):
    """Which bits can flip, alone and together."""

    def allowed(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) bool, which bits of the memory as it was at first can flip at all.

        Args:
            numbers: (n,) int64.
        """

    def possible(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) bool, which bits can each flip beside those that were added.

        Args:
            numbers: (n,) int64.
        """

    def add(self, number: int) -> None:
        """Take a bit among those that flip."""

    def drawn(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Take bits at random among those that flip, as many as n, or as can.

        Returns:
            The numbers of all that flip then, (at most n,) int64, in their order.
        """


def allowed_bits(memory: Memory, region: Region, constraint: Constraint) -> Tensor:
    """Return (n, bits) bool, which bits of a region's words can flip at all."""
    low, high = memory.span(region.name)
    parts = [
        torch.from_numpy(constraint.allowed(np.arange(start, min(start + _BITS, high))))
        for start in range(low, high, _BITS)
    ]
    return torch.cat(parts).view(-1, region.word.bits)
