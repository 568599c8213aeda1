"""Means over all faults of a population, by the estimator that a user names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from casemate.hardware.estimation.exhaustive import exhaustive
from casemate.hardware.estimation.importance import ImportanceSample
from casemate.hardware.estimation.result import StratumFigures
from casemate.hardware.estimation.simple import SimpleSample
from casemate.hardware.estimation.stopping import until
from casemate.hardware.estimation.stratified import StratifiedSample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.hardware.estimation.faults import Stratum, Values
    from casemate.hardware.estimation.harm import Harm
    from casemate.hardware.estimation.result import Estimate
    from casemate.hardware.estimation.stopping import Sample
    from casemate.random import Stream

__all__ = ["CORRUPTION", "CRITICAL", "DROP", "Estimator", "Means", "Population"]

Estimator = Literal["stratified", "importance", "simple", "exhaustive"]

CORRUPTION, DROP, CRITICAL = "mean corruption", "mean accuracy drop", "critical faults"


@dataclass(frozen=True, kw_only=True)
class Population:
    """All faults that there are.

    Attributes:
        faults: By rank.
        strata: The same in parts that are thought to be alike.
        scores: Returns how much each is thought to matter, (population,) by rank; for importance.
    """

    faults: Stratum
    strata: Sequence[Stratum]
    scores: Callable[[], np.ndarray] | None = None


class Means:
    """Means over a population, each from the same faults as far as possible: none is tried twice.

    Args:
        population: The faults.
        estimator: "exhaustive" tries all of them.
        tolerance: Longer half of each interval at which sampling ends, as a share of the mean.
        budget: Faults at most for each mean, or as many as an estimate takes at least.
        rng: What faults are drawn by.
    """

    def __init__(
        self,
        population: Population,
        *,
        estimator: Estimator,
        tolerance: float,
        budget: int,
        rng: Stream,
    ) -> None:
        self._population, self._estimator = population, estimator
        self._tolerance, self._budget, self._rng = tolerance, budget, rng
        self._scores: np.ndarray | None = None

    def of(self, values: Values, bounds: tuple[float, float]) -> Estimate:
        """Return the mean of some values over all faults."""
        if self._estimator == "exhaustive":
            return exhaustive(self._population.faults, values)
        sample = self._sample(values, bounds)
        budget = max(self._budget, min(sample.least, sample.population))
        return until(sample, tolerance=self._tolerance, budget=budget, relative=True).estimate

    def of_harm(self, harm: Harm, critical: float) -> dict[str, Estimate]:
        """Return the means of what faults do, by name.

        Args:
            harm: What each does.
            critical: A fault is critical if it costs more accuracy than that.
        """
        return {
            CORRUPTION: self.of(harm.corruption, (0.0, 1.0)),
            DROP: self.of(harm.drop, (-1.0, 1.0)),
            CRITICAL: self.of(lambda n: (harm.drop(n) > critical).astype(np.float64), (0.0, 1.0)),
        }

    def strata(self, values: Values, estimate: Estimate) -> tuple[StratumFigures, ...]:
        """Return the figures of each stratum where they are known, else none.

        Args:
            values: What each fault is worth.
            estimate: Of their mean.
        """
        if self._estimator != "exhaustive":
            return estimate.strata
        return tuple(
            StratumFigures(
                name=s.name,
                population=s.population,
                tried=s.population,
                mean=float(values(s.at(np.arange(s.population))).mean()),
            )
            for s in self._population.strata
        )

    def _sample(self, values: Values, bounds: tuple[float, float]) -> Sample:
        rng = self._rng.child("faults").numpy()
        if self._estimator == "stratified":
            return StratifiedSample(self._population.strata, values, rng, bounds=bounds)
        faults = self._population.faults
        if self._estimator == "simple":
            return SimpleSample(faults, values, rng, bounds=bounds)
        if self._scores is None:
            assert self._population.scores is not None  # noqa: S101 - offered only where there are
            self._scores = self._population.scores()
        return ImportanceSample(faults, values, self._scores, rng, bounds=bounds)
