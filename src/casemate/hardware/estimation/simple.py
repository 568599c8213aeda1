"""Simple random sampling: every set of so many different faults is as likely as any other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from casemate.hardware.estimation.faults import Draws
from casemate.hardware.estimation.interval import ends, sample_moments
from casemate.hardware.estimation.result import Estimate
from casemate.hardware.estimation.sample import Sample

if TYPE_CHECKING:
    import numpy as np

    from casemate.hardware.estimation.faults import Faults, Values

__all__ = ["SimpleSample"]


class SimpleSample(Sample):
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

    def __init__(
        self,
        faults: Faults,
        values: Values,
        rng: np.random.Generator,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(faults, values, bounds)
        self._draws = Draws(faults.population, rng)

    def _next(self, count: int) -> np.ndarray:
        return self._draws.take(count)

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
