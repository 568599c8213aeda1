"""Stratified sampling: a pilot tells where faults differ, and there more of them are tried.

Two phases. The pilot tries each stratum, and its standard deviations share out all later faults by
Neyman's allocation (`allocation.py`). They are never looked at again for that: an allocation that
went on following the data would try more where the first faults happened to matter, and so dilute
these, which biases the mean downwards, by half where one fault in a hundred matters. The same holds
for the pilot itself, mixed with the later faults of its stratum. So in each stratum of N faults of
which the pilot tried n, the pilot's faults stand for themselves alone, and the later ones for all
others:

    mean of the stratum = (sum over the pilot + (N - n) mean over the later ones) / N,

which is unbiased whatever the pilot found, since given the pilot the later ones are a simple random
sample of the others.

A stratum in which the pilot found no difference is not left out, for it may have found none by
chance: half of the later faults are shared out as the pilot is, which costs no more than twice the
variance of the best allocation. And since few are tried where little was found, the variance within
a stratum would be too small in the mean. So each is mixed with that of the strata most like it, its
group, as if it had come from a few more faults; both for the allocation and for the interval.

The interval is that of `interval.ends`, variances of strata added up, with degrees of freedom after
Satterthwaite (Cochran, "Sampling Techniques", 1977, section 5.4); strata that were tried in full
add none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.estimation.allocation import neyman, pilot_sizes
from casemate.hardware.estimation.faults import Draws
from casemate.hardware.estimation.interval import Moments, ends, sample_moments
from casemate.hardware.estimation.result import Estimate, StratumFigures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.hardware.estimation.faults import Stratum, Values

__all__ = ["StratifiedSample"]

PILOT = 0.2
"""Which share of the first extension the pilot takes."""

SPREAD = 0.5
"""Which share of the later faults does not follow what the pilot found."""

BORROWED = 5
"""How many faults a stratum's variance borrows from its group."""

_TWICE = 2  # faults of each stratum at least, so that its variance can be told


class StratifiedSample:
    """A stratified sample of faults, without replacement.

    Args:
        strata: Parts of the population; those without faults are left out.
        values: What each fault is worth.
        rng: What faults are drawn by.
        bounds: Lowest and highest possible value.

    Raises:
        ParameterError: If there is no stratum with a fault in it.
    """

    def __init__(
        self,
        strata: Sequence[Stratum],
        values: Values,
        rng: np.random.Generator,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.strata = [s for s in strata if s.population]
        if not self.strata:
            raise ParameterError("strata", "holds no fault; give at least one that does")
        self.bounds = bounds
        self._values = values
        self._sizes = np.array([s.population for s in self.strata], dtype=np.int64)
        self._draws = [Draws(s.population, rng) for s in self.strata]
        self._first = [np.zeros(0) for _ in self.strata]
        self._later = [np.zeros(0) for _ in self.strata]
        self._deviations = np.zeros(len(self.strata))

    @property
    def least(self) -> int:
        """How many faults an interval takes at least: two of each stratum in the pilot, two later.

        A pilot of two alone tells so little of rare faults that intervals are far too narrow.
        """
        return int(np.minimum(self._sizes, 2 * _TWICE).sum())

    @property
    def tried(self) -> int:
        """How many faults were tried."""
        return sum(map(len, (*self._first, *self._later)))

    @property
    def population(self) -> int:
        """How many there are."""
        return int(self._sizes.sum())

    def extend(self, count: int) -> None:
        """Try so many more faults, or all that are left; the first time two of each stratum."""
        if not self.tried:
            pilot = pilot_sizes(round(PILOT * count), self._sizes, _TWICE)
            if pilot.sum() > count:
                pilot = pilot_sizes(0, self._sizes, _TWICE)
            self._try(self._first, pilot)
            self._deviations = self._learned()
            count -= self.tried
        others = self._sizes - [len(v) for v in self._first]
        have = np.array([len(v) for v in self._later], dtype=np.int64)
        count = min(max(0, count), int((others - have).sum()))
        spread = np.minimum(pilot_sizes(round(SPREAD * count), self._sizes, 0), others - have)
        rest = max(0, count - int(spread.sum()))
        self._try(self._later, spread + neyman(rest, others, self._deviations, have + spread))

    def estimate(self, level: float = 0.95) -> Estimate:
        """Return what is known so far; `extend` must have been called."""
        total, size = 0.0, math.inf
        moments = Moments(variance=0.0, third=0.0, spread=0.0)
        figures = []
        variances = self._variances(
            [np.concatenate(both) for both in zip(self._first, self._later, strict=True)]
        )
        for stratum, first, later, variance in zip(
            self.strata, self._first, self._later, variances, strict=True
        ):
            mean, own, alone = _of_stratum(first, later, stratum.population, float(variance))
            share = stratum.population / self.population
            total += share * mean
            moments = moments + own.times(share)
            size = min(size, alone / share)
            figures.append(
                StratumFigures(
                    name=stratum.name,
                    population=stratum.population,
                    tried=len(first) + len(later),
                    mean=mean,
                )
            )
        low, high = ends(total, moments, size=size, bounds=self.bounds, level=level)
        return Estimate(
            mean=total,
            low=low,
            high=high,
            tried=self.tried,
            population=self.population,
            method="stratified",
            level=level,
            strata=tuple(figures),
        )

    def _try(self, held: list[np.ndarray], counts: np.ndarray) -> None:
        """Try so many more faults of each stratum, all in one call."""
        if not counts.sum():
            return
        drawn = [d.take(int(n)) for d, n in zip(self._draws, counts, strict=True)]
        numbers = [s.at(rank) for s, rank in zip(self.strata, drawn, strict=True)]
        values = self._values(np.concatenate(numbers))
        for h, part in enumerate(np.split(values, np.cumsum(counts)[:-1])):
            held[h] = np.concatenate([held[h], part])

    def _learned(self) -> np.ndarray:
        """Return the strata's standard deviations by the pilot, each positive."""
        variances = self._variances(self._first)
        # a group without any difference is taken for the least variable stratum that has some
        least = variances[variances > 0].min() if variances.any() else 1.0
        deviations: np.ndarray = np.sqrt(np.maximum(variances, least))
        return deviations

    def _variances(self, held: Sequence[np.ndarray]) -> np.ndarray:
        """Return the variances within strata, (strata,), mixed with those of their groups.

        Args:
            held: Of each stratum the values that tell of it.
        """
        squares = np.array([((v - v.mean()) ** 2).sum() for v in held])
        degrees = np.array([len(v) - 1 for v in held])
        own = squares / np.maximum(degrees, 1)
        groups = np.unique([s.group for s in self.strata], return_inverse=True)[1]
        within = np.bincount(groups, own * self._sizes) / np.bincount(groups, self._sizes)
        variances: np.ndarray = (squares + BORROWED * within[groups]) / (degrees + BORROWED)
        return variances


def _of_stratum(
    first: np.ndarray, later: np.ndarray, population: int, variance: float
) -> tuple[float, Moments, float]:
    """Return a stratum's mean, the moments of that, and the size of a sample that tells as much.

    That size is of a simple random sample that would have met a rare fault as surely.

    Args:
        first: Values of the pilot.
        later: Of the later faults.
        population: Of the stratum.
        variance: Within the stratum.
    """
    n, m = len(first), len(later)
    both = np.concatenate([first, later])
    if n + m == population:
        return float(both.mean()), Moments(variance=0.0, third=0.0, spread=0.0), math.inf
    # without later faults the pilot is all there is, else the later ones are a sample of the others
    rest, size = (population, n) if m == 0 else (population - n, m)
    share, left = rest / population, 1 - size / rest
    mean = float(first.mean())
    if m:
        mean = float(first.sum()) / population + share * float(later.mean())
    # the pilot's faults tell of the others' variance as well
    own = sample_moments(both, rest, count=size)
    own = own.rescaled(left * variance / size, n + m - 1 + BORROWED).times(share)
    return mean, own, size / left / share
