"""Figures with their uncertainty.

Every rate in a report carries n and a 95 % interval; comparisons are paired and, when there are
many, corrected. All functions work on plain numbers, so nothing here needs torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Z95",
    "Z99",
    "Measurement",
    "area_under_curve",
    "difference",
    "false_discovery",
    "holm",
    "largest_difference",
    "mcnemar",
    "mean",
    "newcombe",
    "quantile",
    "rate",
    "student",
    "tango",
    "widened",
    "wilson",
]

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
Z99 = 2.5758293035489004
"""The 99.5 % quantile: an honest figure is accused once in 100 times."""

COVERAGE = 0.95
"""How often an interval holds what it estimates."""

_HALVINGS = 60  # of an interval of differences, down to the precision of floating-point numbers
_SLACK = 1e-9  # of counts that are sums of fractions


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure: its value, how many observations it rests on, and its 95 % interval.

    Attributes:
        name: What was measured, in the field's words: "attack success rate".
        value: The estimate; `None` when there was nothing to measure (n = 0), never zero.
        n: Number of independent observations.
        low: Lower end of the 95 % interval; `None` where n is too small for one.
        high: Upper end of the 95 % interval; `None` where n is too small for one.
        unit: "1" for a rate in [0, 1], else the unit.
        method: How the interval was made: "wilson", "t", "tango", "simultaneous tango", "order
            statistics" or "delong"; "simple", "stratified" or "importance" for an estimate from a
            sample of faults; "exact" for what was computed and not sampled.
    """

    name: str
    value: float | None
    n: int
    low: float | None
    high: float | None
    unit: str = "1"
    method: str = "wilson"

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not measured (n = {self.n})"
        scale, unit, digits = (100, "%", ".1f") if self.unit == "1" else (1, self.unit, ".4g")
        figure = f"{self.name}: {scale * self.value:{digits}} {unit}"
        if self.low is None or self.high is None:
            return f"{figure} (n = {self.n}, too few for an interval)"
        return (
            f"{figure} [{scale * self.low:{digits}}, {scale * self.high:{digits}}] (n = {self.n})"
        )


def wilson(successes: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval for `successes` out of `n`.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    Unlike the Wald interval it keeps its coverage at 0 and at n.

    Raises:
        ValueError: If n < 1 or successes are outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    z2 = z * z
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # the ends are exactly 0 and 1 there; rounding must not move them past the estimate
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return low, high


def rate(name: str, successes: int, n: int) -> Measurement:
    """Return a rate with its Wilson interval; with n = 0 the value is `None`."""
    if n == 0:
        return Measurement(name=name, value=None, n=0, low=None, high=None)
    low, high = wilson(successes, n)
    return Measurement(name=name, value=successes / n, n=n, low=low, high=high)


def mean(name: str, values: Sequence[float], unit: str) -> Measurement:
    """Return the mean of `values` with Student's t interval (n < 2: no interval)."""
    n = len(values)
    if n == 0:
        return Measurement(name=name, value=None, n=0, low=None, high=None, unit=unit, method="t")
    m = math.fsum(values) / n
    if n == 1:
        return Measurement(name=name, value=m, n=1, low=None, high=None, unit=unit, method="t")
    from scipy.stats import t  # noqa: PLC0415 - scipy takes long to import, the callers seldom need it

    s = math.sqrt(math.fsum((v - m) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * s / math.sqrt(n)
    return Measurement(name=name, value=m, n=n, low=m - half, high=m + half, unit=unit, method="t")


def widened(found: Measurement, low: float, high: float) -> Measurement:
    """Return a figure whose interval reaches at least from `low` to `high`."""
    return replace(
        found,
        low=low if found.low is None else min(found.low, low),
        high=high if found.high is None else max(found.high, high),
    )


def newcombe(first: Measurement, second: Measurement) -> tuple[float, float]:
    """Return an interval of the difference of two rates from their own Wilson intervals.

    Newcombe, "Interval estimation for the difference between independent proportions", Statistics
    in Medicine 1998, method 10. Of rates of the same samples it is rather too wide.

    Raises:
        ValueError: If one was not measured.
    """
    values = (first.value, first.low, first.high, second.value, second.low, second.high)
    if any(v is None for v in values):
        raise ValueError("need two rates with their intervals")
    p1, l1, u1, p2, l2, u2 = (float(v) for v in values if v is not None)
    return p1 - p2 - math.hypot(p1 - l1, u2 - p2), p1 - p2 + math.hypot(u1 - p1, p2 - l2)


def tango(lost: float, gained: float, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a difference of two rates of the same n samples.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 1998, section 3. Unlike Student's t of the
    differences it is sure of nothing where all pairs agree: [-z^2/(n + z^2), z^2/(n + z^2)]. The
    counts may be fractions, such as means over models; then it is rather too wide.

    Args:
        lost: Samples on which only the first of the two succeeded.
        gained: Samples on which only the second succeeded.
        n: All samples.
        z: Quantile of the standard normal distribution.

    Returns:
        The ends for the first rate less the second, in [-1, 1].

    Raises:
        ValueError: If n < 1, or the counts are negative or more than n together.
    """
    if n < 1 or lost < 0 or gained < 0 or lost + gained > n * (1 + _SLACK):
        raise ValueError(f"need counts within n >= 1, got {lost} and {gained} of {n}")

    def beyond(difference: float) -> float:
        """Return the score statistic of a difference less than the one observed."""
        # the larger root for the rate of gains, given the difference
        b = (2 * n - lost + gained) * difference - lost - gained
        c = -gained * difference * (1 - difference)
        root = math.sqrt(max(0.0, b * b - 8 * n * c)) - b
        variance = n * (2 * root / (4 * n) + difference * (1 - difference))
        distance = lost - gained - n * difference
        return math.copysign(math.inf, distance) if variance <= 0 else distance / variance**0.5

    value = (lost - gained) / n

    def end(far: float, aim: float) -> float:
        near = value
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            outside = beyond(middle) < aim if aim < 0 else beyond(middle) > aim
            near, far = (near, middle) if outside else (middle, far)
        return far

    low = -1.0 if gained >= n else end(-1.0, z)
    high = 1.0 if lost >= n else end(1.0, -z)
    return low, high


def difference(name: str, lost: int, gained: int, n: int) -> Measurement:
    """Return the difference of two rates of the same samples with Tango's interval.

    Args:
        name: What was measured.
        lost: Samples on which only the first of the two succeeded.
        gained: Samples on which only the second succeeded.
        n: All samples; with 0 the value is `None`.
    """
    if n == 0:
        return Measurement(name=name, value=None, n=0, low=None, high=None, method="tango")
    low, high = tango(lost, gained, n)
    return Measurement(
        name=name, value=(lost - gained) / n, n=n, low=low, high=high, method="tango"
    )


def largest_difference(name: str, groups: Sequence[tuple[int, int, int]]) -> Measurement:
    """Return the largest of several groups' differences of two rates.

    The interval is simultaneous: Tango's intervals with Bonferroni's correction hold all
    differences at once with at least 95 %, and then the largest lies between the largest lower and
    the largest upper end. n is the size of the group with the largest difference.

    Args:
        name: What was measured.
        groups: Of each (lost, gained, n) as for `difference`; empty ones are left out.
    """
    groups = [g for g in groups if g[2]]
    if not groups:
        return Measurement(
            name=name, value=None, n=0, low=None, high=None, method="simultaneous tango"
        )
    z = NormalDist().inv_cdf(1 - (1 - COVERAGE) / (2 * len(groups)))
    ends = [tango(*group, z=z) for group in groups]
    value, n = max(((lost - gained) / n, n) for lost, gained, n in groups)
    return Measurement(
        name=name,
        value=value,
        n=n,
        low=max(low for low, _ in ends),
        high=max(high for _, high in ends),
        method="simultaneous tango",
    )


def area_under_curve(
    name: str, positives: Sequence[float], negatives: Sequence[float]
) -> Measurement:
    """Return the area under the receiver operating characteristic of a score.

    It is the probability that a positive scores higher than a negative, ties counted half. The
    interval is DeLong's (DeLong, DeLong and Clarke-Pearson, Biometrics 1988, equation 4), cut to
    [0, 1]. n is the number of the rarer kind.

    Args:
        name: What was measured.
        positives: Scores of those that should score high.
        negatives: Scores of the others.
    """
    m, n = len(positives), len(negatives)
    if m == 0 or n == 0:
        return Measurement(
            name=name, value=None, n=0, low=None, high=None, unit="probability", method="delong"
        )
    import numpy as np  # noqa: PLC0415 - only here
    from scipy.stats import rankdata  # noqa: PLC0415 - as above

    high, low = np.asarray(positives, dtype=float), np.asarray(negatives, dtype=float)
    ranks = rankdata(np.concatenate([high, low]))
    # the share of the other kind that each score beats
    over = (ranks[:m] - rankdata(high)) / n
    under = 1 - (ranks[m:] - rankdata(low)) / m
    value = float(over.mean())
    if min(m, n) < 2:  # noqa: PLR2004 - one score has no variance
        ends: tuple[float | None, float | None] = (None, None)
    else:
        half = Z95 * math.sqrt(float(over.var(ddof=1)) / m + float(under.var(ddof=1)) / n)
        ends = (max(0.0, value - half), min(1.0, value + half))
    return Measurement(
        name=name,
        value=value,
        n=min(m, n),
        low=ends[0],
        high=ends[1],
        unit="probability",
        method="delong",
    )


def quantile(name: str, values: Sequence[float], q: float, unit: str) -> Measurement:
    """Return the q-quantile with a distribution-free 95 % interval from order statistics.

    Between two values it is interpolated linearly; values may be infinite ("never succeeded").
    The interval runs between the order statistics whose ranks enclose the quantile with binomial
    probability of at least 95 % (David and Nagaraja, "Order Statistics", section 7.1). Where not
    even the whole range of the sample does so, there is no interval.

    Raises:
        ValueError: If q is not between 0 and 1 or a value is not a number.
    """
    if not 0.0 < q < 1.0:
        raise ValueError(f"a quantile needs 0 < q < 1, got {q}")
    n = len(values)
    method = "order statistics"
    if n == 0:
        return Measurement(
            name=name, value=None, n=0, low=None, high=None, unit=unit, method=method
        )
    if any(math.isnan(v) for v in values):
        raise ValueError(f"{name}: a quantile of values that are not numbers is not defined")
    from scipy.stats import binom  # noqa: PLC0415 - as above

    ordered = sorted(values)
    rest, below = math.modf(q * (n - 1))
    value, above = ordered[int(below)], ordered[min(int(below) + 1, n - 1)]
    if rest and value != above:  # not between two infinities, where the difference is no number
        value += rest * (above - value)
    # of n values, Binomial(n, q) lie below the quantile
    low = max(0, int(binom.ppf(0.025, n, q)) - 1)
    high = min(n - 1, int(binom.ppf(0.975, n, q)))
    if binom.cdf(high, n, q) - binom.cdf(low, n, q) < COVERAGE:
        low, high = 0, n - 1  # near an end of the sample one tail needs the other's share
    enclosed = binom.cdf(high, n, q) - binom.cdf(low, n, q) >= COVERAGE
    return Measurement(
        name=name,
        value=float(value),
        n=n,
        low=float(ordered[low]) if enclosed else None,
        high=float(ordered[high]) if enclosed else None,
        unit=unit,
        method=method,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact McNemar p value for paired successes.

    Args:
        only_first: Pairs in which only the first of the two succeeded.
        only_second: Pairs in which only the second succeeded.
    """
    n = only_first + only_second
    if n == 0:
        return 1.0
    from scipy.stats import binomtest  # noqa: PLC0415 - as above

    return float(binomtest(only_first, n, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p values, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def student(values: Sequence[float]) -> float:
    """Return the two-sided p value of Student's test that the mean of values is 0.

    Equal values have no variance: theirs is 0 unless all of them are 0.

    Raises:
        ValueError: If there are fewer than two.
    """
    n = len(values)
    if n < 2:  # noqa: PLR2004 - one value has no variance
        raise ValueError(f"need at least 2 values, got {n}")
    m = math.fsum(values) / n
    s = math.sqrt(math.fsum((v - m) ** 2 for v in values) / (n - 1))
    if m == 0 or s == 0:
        return 1.0 if m == 0 else 0.0
    from scipy.stats import t  # noqa: PLC0415 - as above

    return float(2 * t.sf(abs(m) / (s / math.sqrt(n)), n - 1))


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for the rate of false discoveries, in the order given.

    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 1995.
    """
    if not p_values:
        return []
    from scipy.stats import false_discovery_control  # noqa: PLC0415 - as above

    return [float(p) for p in false_discovery_control(p_values)]
