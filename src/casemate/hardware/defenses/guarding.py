"""What defenses of a deployed model are: guards of memory, restrictions, checks of products.

Guards of memory see the words that changed, and say what is read instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from casemate.hardware.cases import flips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.cost import Cost
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region
    from casemate.threats import Stage

__all__ = [
    "Alarms",
    "Defense",
    "Guarded",
    "MemoryGuard",
    "OwnFlips",
    "ProductCheck",
    "Reading",
    "Restriction",
    "split",
]


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
class Alarms:
    """Where checksums differ.

    Attributes:
        detected: (cases, images) bool.
        false: (images,) bool, alarms without any fault.
    """

    detected: np.ndarray
    false: np.ndarray


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


@runtime_checkable
class MemoryGuard(Protocol):
    """A frozen dataclass that adds bits to a memory and checks words by them when they are read."""

    stage: ClassVar[Stage]
    revision: ClassVar[int]

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if it cannot guard such a memory."""

    def cost(self, deployed: Implementation) -> Cost:
        """Return what it takes."""

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return for each of some flips the bits that an attacker who knows the guard flips for it.

        Args:
            deployed: Without faults.
            numbers: Of the bits that are to stay flipped, in the order in which they flip.
            constraint: Which other bits of the memory can flip beside those; what is chosen is
                added to it. It does not bind the guard's own bits.

        Returns:
            Their numbers, the wanted one among them; those of the guard are counted on from the
            memory's.
        """

    def storage(self, memory: Memory) -> int:
        """Return how many bits the guard adds that can be struck."""

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read of a memory under each case.

        Args:
            memory: Without faults; the guard was made on it.
            cases: What changed in it.
            own: What changed in the guard's own bits.
        """


class Reading(Protocol):
    """How words of memory are read, where a defense mends them."""

    def values(self, region: Region, words: Tensor) -> Tensor:
        """Return the numbers that a tensor's words, (n,), are read as, (n,)."""


@runtime_checkable
class Restriction(Protocol):
    """A frozen dataclass that puts operations into a deployed network, or changes its words."""

    stage: ClassVar[Stage]
    revision: ClassVar[int]

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if it cannot stand there."""

    def protected(self, implementation: Implementation, clean: Tensor) -> Implementation:
        """Return the network with them; `clean` are (n, *shape) inputs that nobody touched."""

    def cost(self, deployed: Implementation) -> Cost:
        """Return what it takes in the network that `protected` returned."""


@runtime_checkable
class ProductCheck(Protocol):
    """A frozen dataclass that notices wrong sums and leaves them as they are."""

    stage: ClassVar[Stage]
    revision: ClassVar[int]

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if there is nothing to check."""

    def cost(self, deployed: Implementation) -> Cost:
        """Return what it takes."""

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return for each of some flips the bits that an attacker flips for it, as of a guard."""

    def alarms(
        self, implementation: Implementation, cases: Cases, x: Tensor, clean: Tensor
    ) -> Alarms:
        """Return which inferences on `x` raise an alarm; `clean` are inputs to set limits by."""


Defense: TypeAlias = MemoryGuard | Restriction | ProductCheck
