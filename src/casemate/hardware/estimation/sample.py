"""What samples of one population share: faults that were tried, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from casemate.hardware.estimation.faults import Faults, Values

__all__ = ["Sample"]


class Sample:
    """Faults of a population in the order in which they are tried.

    Args:
        faults: All faults.
        values: What each is worth.
        bounds: Lowest and highest possible value.
    """

    least = 2
    """How many faults an estimate takes at least."""

    def __init__(self, faults: Faults, values: Values, bounds: tuple[float, float]) -> None:
        self.faults = faults
        self.bounds = bounds
        self._values = values
        self._seen = np.zeros(0)

    @property
    def tried(self) -> int:
        """How many faults were tried."""
        return len(self._seen)

    @property
    def population(self) -> int:
        """How many there are."""
        return self.faults.population

    def extend(self, count: int) -> None:
        """Try so many more faults, or all that are left if they are fewer."""
        rank = self._next(count)
        if len(rank):
            self._seen = np.concatenate([self._seen, self._values(self.faults.at(rank))])

    def _next(self, count: int) -> np.ndarray:
        """Return the ranks of so many faults that are tried next, or of all that are left."""
        raise NotImplementedError
