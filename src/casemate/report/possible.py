"""Intervals cut to what a figure can be: Student's t may reach beyond it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from casemate.stats import widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.stats import Measurement

__all__ = ["ADDED", "as_wide_as", "within_shares"]

ADDED = "success that the poison adds"
"""Success minus what the attacker has without the poison or without the trigger, seed by seed."""

_SHARES = ("1", "probability")
_DIFFERENCES = ("clean accuracy drop", "worst class accuracy drop", "mean accuracy drop", ADDED)
_BEYOND = "beyond another clean model"
_DISTANCE = "distance "
_SSIM = "ssim"


def within_shares(found: Measurement) -> Measurement:
    """Return a figure with its interval cut to what it can be.

    A share is in [0, 1]. A drop, what poison adds and how many more alarms there are are
    differences of shares, in [-1, 1], as is similarity. A distance is at least 0.
    """
    if found.low is None or found.high is None:
        return found
    least, most = _range(found)
    return replace(found, low=max(least, found.low), high=min(most, found.high))


def as_wide_as(found: Measurement, ends: Sequence[tuple[float, float]]) -> Measurement:
    """Return a figure over seeds with an interval no narrower than the seeds' own on average.

    Seeds are judged on the same samples, and what these leave open no further seed would settle.
    The interval keeps to what is possible.

    Args:
        found: With Student's t interval, or without one.
        ends: Of the interval of each seed.
    """
    if found.low is None or found.high is None or not ends:
        return within_shares(found)
    low, high = (math.fsum(side) / len(ends) for side in zip(*ends, strict=True))
    return within_shares(widened(found, low, high))


def _range(found: Measurement) -> tuple[float, float]:
    if found.name == _SSIM:
        return -1.0, 1.0
    if found.name.startswith(_DISTANCE):
        return 0.0, math.inf
    if found.unit not in _SHARES:
        return -math.inf, math.inf
    if found.name.startswith(_DIFFERENCES) or found.name.endswith(_BEYOND):
        return -1.0, 1.0
    return 0.0, 1.0
