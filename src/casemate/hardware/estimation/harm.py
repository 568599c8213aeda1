"""What single faults do, whatever they are; each is tried once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.room import CASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.hardware.effects import Effects

__all__ = ["Harm"]


class Harm:
    """Changed and lost predictions by the number of a fault, remembered.

    A prediction with a score that is no finite number is one that serves nobody: it counts as
    changed, and as wrong.

    Args:
        effects: Of faults by their numbers, (n,) int64 and different, one case each.
        before: (images,) predictions without faults.
        truth: (images,) labels.
        inferences: On how many images each fault may act; all if omitted.
        cases: How many are tried in one call.
        told: Called after some faults with how many different ones were tried so far.
    """

    def __init__(
        self,
        effects: Callable[[np.ndarray], Effects],
        before: np.ndarray,
        truth: np.ndarray,
        *,
        inferences: int | None = None,
        cases: int = CASES,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self._effects, self._before, self._truth, self._told = effects, before, truth, told
        self._cases = cases
        self._inferences = len(truth) if inferences is None else inferences
        self._numbers = np.zeros(0, dtype=np.int64)  # ascending
        self._found = np.zeros((2, 0), dtype=np.int64)

    @property
    def tried(self) -> int:
        """How many different faults were tried."""
        return len(self._numbers)

    def corruption(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) in [0, 1], which share of predictions each fault changes."""
        share: np.ndarray = self._of(numbers)[0] / self._inferences
        return share

    def drop(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) in [-1, 1], how much accuracy each fault costs."""
        share: np.ndarray = self._of(numbers)[1] / self._inferences
        return share

    def _of(self, numbers: np.ndarray) -> np.ndarray:
        """Return (2, n) int64, changed predictions and right ones lost."""
        self._try(np.setdiff1d(numbers, self._numbers))
        found: np.ndarray = self._found[:, np.searchsorted(self._numbers, numbers)]
        return found

    def _try(self, fresh: np.ndarray) -> None:
        if not len(fresh):
            return
        parts = []
        for i in range(0, len(fresh), self._cases):
            part = fresh[i : i + self._cases]
            effects = self._effects(part).without_numbers()
            lost = -effects.gained(self._before, self._truth)
            parts.append(np.stack([effects.changed, lost]))
            if self._told is not None:
                self._told(self.tried + i + len(part))
        numbers = np.concatenate([self._numbers, fresh])
        order = np.argsort(numbers)
        self._numbers = numbers[order]
        self._found = np.concatenate([self._found, *parts], axis=1)[:, order]
