"""What an estimator says: a mean over all faults, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from casemate.stats import Measurement

__all__ = ["Estimate", "StratumFigures"]


@dataclass(frozen=True, kw_only=True)
class StratumFigures:
    """One stratum's part of an estimate.

    Attributes:
        name: Of the stratum.
        population: How many faults it has.
        tried: How many of them were tried.
        mean: Estimate of their mean value.
    """

    name: str
    population: int
    tried: int
    mean: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean value of all faults of a population.

    Attributes:
        mean: The estimate, in the unit of the values.
        low: Lower end of the interval.
        high: Upper end.
        tried: How many different faults were tried.
        population: How many there are.
        method: How faults were chosen: "simple", "stratified", "importance" or "exhaustive".
        level: How often such an interval holds the mean.
        strata: Of each stratum, where there are any.
    """

    mean: float
    low: float
    high: float
    tried: int
    population: int
    method: str
    level: float = 0.95
    strata: tuple[StratumFigures, ...] = field(default=())

    @property
    def half_width(self) -> float:
        """The longer of the ways from the mean to the interval's ends."""
        return max(self.high - self.mean, self.mean - self.low)

    def measurement(self, name: str, unit: str = "1") -> Measurement:
        """Return the estimate as a figure of a report.

        Args:
            name: What was measured.
            unit: Of the values; "1" for a rate.
        """
        return Measurement(
            name=name,
            value=self.mean,
            n=self.tried,
            low=self.low,
            high=self.high,
            unit=unit,
            method="exact" if self.tried == self.population else self.method,
        )
