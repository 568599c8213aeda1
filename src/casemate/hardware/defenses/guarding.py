"""What guards of memory share: they see the words that changed, and say what is read instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from casemate.hardware.cases import flips

if TYPE_CHECKING:
    from casemate.hardware.cases import Cases
    from casemate.hardware.memory import Memory

__all__ = ["Guarded", "MemoryGuard", "OwnFlips", "split"]


@dataclass(frozen=True)
class OwnFlips:
    """Inverted bits of a guard's own.

    Attributes:
        case: (m,) int64; no bit twice in one case.
        bit: (m,) int64 in [0, storage).
    """

    case: np.ndarray
    bit: np.ndarray


def split(
    memory: Memory, case: np.ndarray, number: np.ndarray, count: int
) -> tuple[Cases, OwnFlips]:
    """Return inverted bits as those of the memory and those of its guard.

    Args:
        memory: Without faults.
        case: (m,) which case each belongs to.
        number: (m,) of the bit; a guard's own bits are counted on from those of the memory.
        count: How many cases there are.
    """
    own = number >= memory.bits
    return (
        flips(memory, case[~own], number[~own], count),
        OwnFlips(case[own], number[own] - memory.bits),
    )


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
        """Return how many bits the guard adds that can be struck."""

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read of a memory under each case.

        Args:
            memory: Without faults; the guard was made on it.
            cases: What changed in it.
            own: What changed in the guard's own bits.
        """
