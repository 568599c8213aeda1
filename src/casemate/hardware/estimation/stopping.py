"""As many faults as a tolerance takes, and no more than a budget.

The first round has a fixed size. Its interval says how many faults the tolerance should take, the
next round goes there, and so on until the longer half of the interval is within the tolerance: the
two-stage rule of Stein (Annals of Mathematical Statistics 1945), repeated as in Hall, "Asymptotic
theory of triple sampling for sequential estimation of a mean" (Annals of Statistics 1981). The
looks are few, two to five as a rule, and decided by the width alone, never by where the mean lies;
the coverage then tends to the nominal one (Chow and Robbins, Annals of Mathematical Statistics
1965).

What is left of the error of looking is that small variances stop early, and that of skewed values
these come with small means. The interval is moved for that already (`interval.py`). In 250 to 400
campaigns of each estimator and tolerances of 5 to 30 % of the mean, on a network with an exhaustive
answer, 94 to 96 % of the last intervals held it. Spending the error over the looks in its place,
half of it at the first, a quarter at the second and so on, made 97 to 100 % hold it, for up to 2.5
times the faults; a confidence sequence is wider still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from casemate.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.hardware.estimation.result import Estimate

__all__ = ["Outcome", "Sample", "until"]

FIRST = 500
"""Faults of the first round if not told: fewer tell little of variances of skewed values."""

_AHEAD = 2
_MARGIN = 1.05  # more than planned, so that the plan is met rather than just missed
# of a round, as a share of what was tried before; widths may fall faster than planned, since
# importance sampling takes ever more faults for certain
_SMALLEST, _LARGEST = 0.1, 1.0


class Sample(Protocol):
    """A sample of faults that can be extended: any estimator."""

    @property
    def least(self) -> int:
        """How many faults an estimate takes at least."""

    @property
    def tried(self) -> int:
        """How many faults were tried."""

    @property
    def population(self) -> int:
        """How many there are."""

    def extend(self, count: int, /) -> None:
        """Try so many more faults, or all that are left if they are fewer."""

    def estimate(self) -> Estimate:
        """Return what is known so far."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a campaign ended.

    Attributes:
        estimate: What is known.
        met: Whether it is as narrow as was asked for; if not, the budget was used up.
        looks: How often the width was looked at.
    """

    estimate: Estimate
    met: bool
    looks: int


def until(
    sample: Sample,
    *,
    tolerance: float,
    budget: int,
    relative: bool = False,
    first: int = FIRST,
    progress: Callable[[Estimate], None] | None = None,
) -> Outcome:
    """Extend a sample until its interval is narrow enough or the budget is used up.

    Args:
        sample: Of faults, none tried yet.
        tolerance: The longer half of the interval, at most.
        budget: Faults, at most.
        relative: Whether the tolerance is a share of the mean.
        first: Faults of the first round; twice what the estimate takes at least if that is
            more, so that a pilot is worth something.
        progress: Told of the estimate after each round.

    Raises:
        ParameterError: If the tolerance is not a positive number, or the budget does not allow an
            estimate.
    """
    if not tolerance > 0 or math.isinf(tolerance):
        raise ParameterError("tolerance", f"is {tolerance}, but must be a positive number")
    if budget < 1:
        raise ParameterError("budget", f"is {budget}, but at least one fault must be tried")
    least = min(sample.least, sample.population)
    if budget < least:
        raise ParameterError(
            "budget", f"is {budget}, but the estimate takes at least {least} faults; allow these"
        )
    looks, round_size = 0, min(budget, max(first, _AHEAD * least))
    while True:
        sample.extend(round_size)
        looks += 1
        estimate = sample.estimate()
        if progress is not None:
            progress(estimate)
        aim = tolerance * abs(estimate.mean) if relative else tolerance
        met = estimate.half_width <= aim
        left = min(budget, sample.population) - sample.tried
        if met or left <= 0:
            return Outcome(estimate=estimate, met=met, looks=looks)
        short = (estimate.half_width / aim) ** 2 if aim > 0 else math.inf
        share = min(max(_MARGIN * short - 1, _SMALLEST), _LARGEST)
        round_size = min(left, math.ceil(share * sample.tried))
