"""Predicted classes: a G-test of each window of traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.threats import Stage

if TYPE_CHECKING:
    from casemate.inference.windows import Answers

__all__ = ["ClassDistributionMonitor"]


@dataclass(frozen=True, kw_only=True)
class ClassDistributionMonitor:
    """Suspects windows in which the model answers classes more or less often than before.

    The figure is the G statistic of homogeneity (Sokal and Rohlf, "Biometry"): twice the
    log-likelihood ratio of the table of predicted classes in window and reference. A class that
    neither answers adds nothing. Expected counts are small where classes are many, and the
    chi-squared distribution does not hold there; it is not used: the alarm is set on resampled
    windows of clean traffic. Needs no labels. Breaking down counts as a class of its own.
    """

    stage: ClassVar[Stage] = Stage.INFERENCE
    revision: ClassVar[int] = 1
    needs_confidence: ClassVar[bool] = False

    def check(self, reference: Answers, windows: Answers) -> np.ndarray:
        """Return (w,) statistics of at least 0; `WindowMonitor.check` says the rest."""
        known, seen = reference.predicted + 1, windows.predicted + 1  # -1 is breaking down
        classes = int(max(known.max(), seen.max())) + 1
        rows, size = seen.shape
        offset = classes * np.arange(rows)[:, None]
        observed = np.bincount((seen + offset).ravel(), minlength=rows * classes)
        window = observed.reshape(rows, classes)
        before = np.bincount(known, minlength=classes)[None, :]
        total = window + before
        n = size + len(known)
        found: np.ndarray = 2 * (
            _surprise(window, total * size / n) + _surprise(before, total * len(known) / n)
        )
        return found.clip(0.0)  # rounding must not make it negative


def _surprise(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return (w,) sums over classes of observed log(observed / expected); nothing seen, nothing."""
    observed = np.broadcast_to(observed, expected.shape)
    ratio = np.divide(observed, expected, out=np.ones_like(expected), where=observed > 0)
    total: np.ndarray = (observed * np.log(ratio)).sum(1)
    return total
