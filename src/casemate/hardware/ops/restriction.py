"""Cutting activations to a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from casemate.hardware.ops.operation import Pointwise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound

__all__ = ["Restrict"]


@dataclass(frozen=True, kw_only=True)
class Restrict(Pointwise):
    """What is outside a range is brought back to it.

    Attributes:
        low: Lower end.
        high: Upper end.
        outside: What a number outside becomes: the nearest end ("end") or 0 ("zero"). What is no
            number becomes 0, or the nearest end to it.
    """

    low: float
    high: float
    outside: Literal["end", "zero"] = "end"

    masks = True

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return every number within the range."""
        del values
        (x,) = inputs
        if self.outside == "zero":
            inside = (x >= self.low) & (x <= self.high)  # false for NaN
            return torch.where(inside, x, torch.zeros((), dtype=x.dtype, device=x.device))
        return x.nan_to_num(0.0, torch.inf, -torch.inf).clamp_(self.low, self.high)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the same bound; none where a number beyond an end falls to 0."""
        del values, shapes
        return [None if self.outside == "zero" else after.times(1.0)]
