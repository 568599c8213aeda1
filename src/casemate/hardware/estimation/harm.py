"""What single bits do when they flip, behind whatever stands there; each is tried once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.hardware.cases import flips

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.hardware.defenses.guarding import MemoryGuard
    from casemate.hardware.injector import Injector

__all__ = ["Harm"]

_AT_ONCE = 4096  # faults that are tried in one call


class Harm:
    """Changed and lost predictions by the number of a bit, remembered.

    A prediction with a score that is no finite number is one that serves nobody: it counts as
    changed, and as wrong.

    Args:
        injector: Of the model that runs.
        truth: (images,) labels.
        guard: Of its memory, or None.
        told: Called after some faults with how many different ones were tried so far.
    """

    def __init__(
        self,
        injector: Injector,
        truth: np.ndarray,
        *,
        guard: MemoryGuard | None = None,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self._injector, self._truth, self._guard, self._told = injector, truth, guard, told
        self._numbers = np.zeros(0, dtype=np.int64)  # ascending
        self._found = np.zeros((2, 0), dtype=np.int64)

    @property
    def tried(self) -> int:
        """How many different bits were tried."""
        return len(self._numbers)

    def corruption(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) in [0, 1], which share of predictions each bit's flip changes."""
        share: np.ndarray = self._of(numbers)[0] / len(self._truth)
        return share

    def drop(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) in [-1, 1], how much accuracy each bit's flip costs."""
        share: np.ndarray = self._of(numbers)[1] / len(self._truth)
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
        for i in range(0, len(fresh), _AT_ONCE):
            part = fresh[i : i + _AT_ONCE]
            memory = self._injector.implementation.memory
            cases = flips(memory, np.arange(len(part)), part, len(part))
            if self._guard is not None:
                cases = self._guard.guarded(memory, cases).cases
            effects = self._injector.effects(cases).without_numbers()
            lost = -effects.gained(self._injector.labels, self._truth)
            parts.append(np.stack([effects.changed, lost]))
            if self._told is not None:
                self._told(self.tried + i + len(part))
        numbers = np.concatenate([self._numbers, fresh])
        order = np.argsort(numbers)
        self._numbers = numbers[order]
        self._found = np.concatenate([self._found, *parts], axis=1)[:, order]
