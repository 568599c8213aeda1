"""Simple random sampling: every set of so many different faults is as likely as any other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.estimation.faults import Draws
from casemate.hardware.estimation.interval import ends, sample_moments
from casemate.hardware.estimation.result import Estimate

if TYPE_CHECKING:
    from casemate.hardware.estimation.faults import Faults, Values

__all__ = ["SimpleSample"]


class SimpleSample:
    """A simple random sample of faults, without replacement.

    The estimate is the sample's mean, its interval that of `interval.ends` with the correction for
    a finite population. It needs to know nothing of the model, and is worth it where many faults
    matter; its interval is honest once the sample holds about ten faults of the kind that carries
    most of the mean.

    Args:
        faults: All faults.
        values: What each is worth.
        rng: What faults are drawn by.
        bounds: Lowest and highest possible value.
    """

    least = 2
    """How many faults an estimate takes at least."""

    def __init__(
        self,
        faults: Faults,
        values: Values,
        rng: np.random.Generator,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.faults = faults
        self.bounds = bounds
        self._values = values
        self._draws = Draws(faults.population, rng)
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
        rank = self._draws.take(count)
        if len(rank):
            self._seen = np.concatenate([self._seen, self._values(self.faults.at(rank))])

    def estimate(self, level: float = 0.95) -> Estimate:
        """Return what is known so far; there must be at least one fault."""
        n, population = self.tried, self.population
        mean = float(self._seen.mean())
        left = 1 - n / population
        low, high = ends(
            mean,
            sample_moments(self._seen, population),
            size=n / left if left else math.inf,
            bounds=self.bounds,
            level=level,
        )
        return Estimate(
            mean=mean,
            low=low,
            high=high,
            tried=n,
            population=population,
            method="simple",
            level=level,
        )
