"""An interval for means of very skewed values.

Most faults change nothing and a few change nearly everything. The mean of a sample then lies low
more often than high, and where it is low so is its variance: Student's interval misses upwards, as
often as in one of four campaigns. Three corrections, all from the sample's own moments, bring that
back:

- The interval is moved towards the long tail by (2 z^2 + 1) / 6 times the ratio of the third
  cumulant to the variance (Johnson, "Modified t tests and confidence intervals for asymmetrical
  populations", JASA 1978; Hall, "On the removal of skewness by transformation",
  JRSS B 1992), in the form of a score interval, as Wilson's: its ends solve a quadratic equation,
  so that both keep to their side of the mean however large the move is.
- Degrees of freedom are those of the variance, 2 V^2 / Var(V) (Satterthwaite, Biometrics 1946),
  with the fourth moment in Var(V) and not the one of normal values: ten faults that matter among
  a thousand are about twenty degrees of freedom, not 999.
- Where all values are the same there is no variance. Then the ends are those of Wilson's interval
  for faults of the most extreme value that was not met.

In simulated campaigns on networks with exhaustive answers 93 to 97 % of the 95 % intervals held the
answer, from about ten expected faults of the kind that carries most of the mean on, against 75 to
93 % of Student's. Intervals that hold for any bounded values (Hoeffding's, empirical Bernstein,
betting: Waudby-Smith and Ramdas, JRSS B 2024) were passed over. They have to prepare for unseen
faults that change everything, so that after n faults no upper end is below 3.7 / n: on the weights
of an int8 LeNet, whose faults change a few of a thousand images at most, a hundred times the mean
of 8,000 faults. So this interval knows nothing of what the sample has not met: **a mean that rests
on faults rarer than one in the sample is missed.**
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Moments", "ends", "sample_moments"]

_FEWEST_DEGREES = 2.0  # below, Student's distribution has no variance


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What is known of the distribution of an estimate.

    Attributes:
        variance: V, its estimated variance.
        third: Its estimated third cumulant.
        spread: Estimated variance of `variance` as an estimate.
    """

    variance: float
    third: float
    spread: float

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of the sum of two independent estimates."""
        return Moments(
            variance=self.variance + other.variance,
            third=self.third + other.third,
            spread=self.spread + other.spread,
        )

    def rescaled(self, variance: float, degrees: float) -> Moments:
        """Return moments of the same shape with another variance.

        Args:
            variance: The new one.
            degrees: Of freedom, where there was no variance to tell them by.
        """
        if self.variance <= 0:
            return Moments(variance=variance, third=0.0, spread=2 * variance**2 / degrees)
        ratio = variance / self.variance
        return Moments(
            variance=variance, third=ratio**1.5 * self.third, spread=ratio**2 * self.spread
        )

    def times(self, factor: float) -> Moments:
        """Return the moments of the estimate times a factor."""
        return Moments(
            variance=factor**2 * self.variance,
            third=factor**3 * self.third,
            spread=factor**4 * self.spread,
        )


def sample_moments(values: np.ndarray, population: int, *, count: int | None = None) -> Moments:
    """Return the moments of the mean of a simple random sample.

    Without replacement: a sample of all has none (Cochran, "Sampling Techniques", 1977, theorem
    2.2).

    Args:
        values: (n,) at least one, that tell of the population.
        population: That the sample was drawn from.
        count: How many values the mean is of; all if omitted.
    """
    n = len(values)
    count = n if count is None else count
    left = 1 - count / population
    off = values - values.mean()
    square = off * off
    second = float(square.mean())
    if second == 0 or left <= 0:
        return Moments(variance=0.0, third=0.0, spread=0.0)
    variance = left * second * n / (n - 1) / count
    third = left * (1 - 2 * count / population) * float((square * off).mean()) / count**2
    kurtosis = float((square * square).mean()) / second**2
    # normal values: kurtosis 3 and n - 1 degrees of freedom; two values cannot tell theirs
    spread = variance**2 * max((kurtosis - 1) / n, 2 / (n - 1))
    return Moments(variance=variance, third=third, spread=spread)


def ends(
    mean: float,
    moments: Moments,
    *,
    size: float,
    bounds: tuple[float, float],
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the ends of the interval.

    Args:
        mean: The estimate.
        moments: Of the estimate.
        size: How many faults of a simple random sample would have met rare faults as well; only
            used where no variance was seen. Infinite if no fault was left out.
        bounds: Lowest and highest possible value.
        level: How often it shall hold the mean.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    lowest, highest = bounds
    if moments.variance <= 0:
        share = 0.0 if math.isinf(size) else z * z / (size + z * z)
        return mean - share * (mean - lowest), mean + share * (highest - mean)
    if moments.spread > 0:
        from scipy.stats import t  # noqa: PLC0415 - scipy takes long to import

        degrees = max(_FEWEST_DEGREES, 2 * moments.variance**2 / moments.spread)
        z = float(t.ppf((1 + level) / 2, degrees))
    move = (2 * z * z + 1) / 6 * moments.third / moments.variance
    half = math.hypot(z * math.sqrt(moments.variance), move)
    return max(lowest, mean + move - half), min(highest, mean + move + half)
