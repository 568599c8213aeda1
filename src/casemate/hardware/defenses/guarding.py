"""What guards of memory share: they see the words that changed, and say what is read instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from casemate.hardware.cases import Cases
    from casemate.hardware.memory import Memory

__all__ = ["Guarded", "MemoryGuard"]


@dataclass(frozen=True)
class Guarded:
    """What is read of faulty memory behind a guard.

    Attributes:
        cases: The words that are still not what they were, those that the guard made wrong
            included.
        detected: (count,) bool, cases in which the guard noticed anything.
        repaired: (count,) bool, cases in which all words are again what they were.
    """

    cases: Cases
    detected: np.ndarray
    repaired: np.ndarray

    @classmethod
    def of(cls, cases: Cases, detected: np.ndarray) -> Guarded:
        """Return it for the words that are read, whether or not they changed."""
        left = np.bincount(cases.case, minlength=cases.count)
        return cls(cases, detected, left == 0)


class MemoryGuard(Protocol):
    """A frozen dataclass that adds bits to a memory and checks words by them when they are read."""

    def storage(self, memory: Memory) -> int:
        """Return how many bits the guard adds."""

    def guarded(self, memory: Memory, cases: Cases) -> Guarded:
        """Return what is read of a memory under each case.

        The guard was made on the memory without faults. Its own bits are not struck here.
        """
