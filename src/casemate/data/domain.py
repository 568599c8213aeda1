"""The input domain that a model declares: what an input looks like and what epsilon means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from casemate.errors import UsageError

__all__ = ["Domain"]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Shape, bounds and resolution of one input, before any preprocessing of the model.

    Attributes:
        shape: (channels, height, width) of an image, or (features,).
        low: Smallest value that an input can hold.
        high: Largest value.
        step: Distance between two values that an input can hold: 1/255 for 8-bit images in
            [0, 1], None where any value in the bounds is possible.
    """

    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0
    step: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(
                f"a domain needs finite bounds with low < high, got [{self.low}, {self.high}]"
            )
        if not self.shape or any(n < 1 for n in self.shape):
            raise UsageError(f"a domain needs a shape of positive sizes, got {self.shape}")

    @property
    def width(self) -> float:
        """The difference high - low: no L-infinity epsilon can exceed it."""
        return self.high - self.low

    @property
    def size(self) -> int:
        """Number of values in one input."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether an input is (channels, height, width)."""
        return len(self.shape) == 3  # noqa: PLR2004 - the three axes of an image
