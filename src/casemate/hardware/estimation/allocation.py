"""How many faults of each stratum are tried."""

from __future__ import annotations

import heapq
import math

import numpy as np

__all__ = ["neyman", "pilot_sizes"]


def neyman(
    total: int, populations: np.ndarray, deviations: np.ndarray, tried: np.ndarray
) -> np.ndarray:
    """Return how many more faults each stratum gets.

    Neyman's allocation gives stratum h a share in proportion to N_h S_h (JRSS 1934). In whole
    numbers, and within what each stratum has, the next fault goes where it lowers the variance
    most: to the largest N_h S_h / sqrt(n (n + 1)), with n the faults that it already has (Wright,
    "The equivalence of Neyman optimum allocation for sampling and equal proportions for
    apportioning the U.S. House of Representatives", The American Statistician 2012).
    Asked twice it gives what it would have given for both at once.

    Args:
        total: Faults to share out.
        populations: (strata,) N_h.
        deviations: (strata,) standard deviations S_h, not negative.
        tried: (strata,) what counts as tried already.

    Returns:
        (strata,) int64, in sum `total` or all that is left.
    """
    given = np.zeros(len(populations), dtype=np.int64)
    weight = populations * deviations
    # the second number breaks ties, where nothing varies, by what was tried least
    waiting = [
        (-_worth(w, n), n / size, h)
        for h, (w, n, size) in enumerate(zip(weight, tried, populations, strict=True))
        if n < size
    ]
    heapq.heapify(waiting)
    for _ in range(total):
        if not waiting:
            break
        _, _, h = heapq.heappop(waiting)
        given[h] += 1
        n = int(tried[h] + given[h])
        if n < populations[h]:
            heapq.heappush(waiting, (-_worth(weight[h], n), n / populations[h], h))
    return given


def pilot_sizes(total: int, populations: np.ndarray, least: int) -> np.ndarray:
    """Return sizes in proportion to the roots of the strata's populations.

    Between sizes in proportion to the strata, which leave small strata out, whose faults are often
    the worst, and equal sizes, which leave out large ones: a power allocation (Bankier, "Power
    allocations: determining sample sizes for subnational areas", The American Statistician 1988).

    Args:
        total: About how many faults in all; more where the strata's least takes more.
        populations: (strata,).
        least: For each stratum, or all that it has.
    """
    roots = np.sqrt(populations)
    share = np.round(total * roots / roots.sum()).astype(np.int64)
    sizes: np.ndarray = np.minimum(np.maximum(share, least), populations)
    return sizes


def _worth(weight: float, tried: int) -> float:
    return float(weight) / math.sqrt(tried * (tried + 1)) if tried else math.inf
