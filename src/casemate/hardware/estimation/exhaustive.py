"""All faults, where there are few enough to try them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.estimation.result import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from casemate.hardware.estimation.faults import Faults, Values

__all__ = ["every", "exhaustive"]

_AT_ONCE = 4096  # faults


def every(
    faults: Faults, values: Values, *, at_once: int = _AT_ONCE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all faults in the order of their ranks, part by part.

    Args:
        faults: All faults.
        values: What each is worth.
        at_once: How many a part has.

    Yields:
        The numbers of the bits and their values, (n,) both.
    """
    for first in range(0, faults.population, at_once):
        numbers = faults.at(np.arange(first, min(first + at_once, faults.population)))
        yield numbers, values(numbers)


def exhaustive(
    faults: Faults,
    values: Values,
    *,
    at_once: int = _AT_ONCE,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Return the exact mean over all faults.

    Args:
        faults: All faults.
        values: What each is worth.
        at_once: How many are tried in one call.
        progress: Told after each call how many were tried, of how many.

    Raises:
        ParameterError: If there is no fault.
    """
    if not faults.population:
        raise ParameterError("faults", "holds no fault; choose tensors that hold numbers")
    sums, tried = [], 0
    for numbers, found in every(faults, values, at_once=at_once):
        sums.append(math.fsum(found))
        tried += len(numbers)
        if progress is not None:
            progress(tried, faults.population)
    mean = math.fsum(sums) / tried
    return Estimate(
        mean=mean, low=mean, high=mean, tried=tried, population=tried, method="exhaustive"
    )
