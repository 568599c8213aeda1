"""Different whole numbers, drawn evenly."""

from __future__ import annotations

import numpy as np

__all__ = ["distinct"]


def distinct(rng: np.random.Generator, population: int, n: int) -> np.ndarray:
    """Return n different whole numbers in [0, population), in random order.

    Each set of n is as likely as any other. It takes memory in proportion to n, whatever the
    population.

    Args:
        rng: What they are drawn by.
        population: At least n.
        n: How many.
    """
    if 2 * n > population:  # rather those that are left out: the mask is no larger than the result
        rest = np.ones(population, dtype=bool)
        rest[distinct(rng, population, population - n)] = False
        return rng.permutation(np.flatnonzero(rest))
    found = np.zeros(0, dtype=np.int64)
    while len(found) < n:
        missing = n - len(found)
        found = np.union1d(found, rng.integers(0, population, missing + missing // 2 + 8))
    # a set of draws of any size is as likely as another of that size, and so is a part of it
    return rng.permutation(found)[:n]
