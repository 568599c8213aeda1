"""How much larger than a change of its input the sums of an operation can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Growth"]


@dataclass(frozen=True)
class Growth:
    """Bounds for changes whose largest number is 1.

    Attributes:
        every: No sum of several numbers is larger, in whatever order, where all channels change; 0
            where no more than two numbers are summed.
        one: (channels,) the same where channel c alone changes; None where `every` is all that is
            known.
    """

    every: float
    one: Tensor | None = None

    def of(self, channels: Tensor | None) -> Tensor | float:
        """Return the bound where these channels change, (rows, k) or None for all: (rows,)."""
        if channels is None or self.one is None:
            return self.every
        return torch.clamp_max(self.one[channels].sum(1), self.every)
