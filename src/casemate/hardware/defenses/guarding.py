"""What defenses of a deployed model are: guards of memory, restrictions, checks of products.

Guards of memory see the words that changed, and say what is read instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from casemate.hardware.cases import Cases, flips

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.defenses.cost import Cost
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region
    from casemate.hardware.upsets import Upsets
    from casemate.random import Stream
    from casemate.threats import Stage

__all__ = [
    "Defense",
    "Evadable",
    "Fitted",
    "Guarded",
    "MemoryGuard",
    "OwnFlips",
    "ProductCheck",
    "Reading",
    "Restriction",
    "read_anew",
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


def read_anew(memory: Memory, cases: Cases, regions: Sequence[Region], read: ReadAnew) -> Guarded:
    """Return what is read where some tensors are not read as they are.

    Args:
        memory: Without faults.
        cases: What changed in it.
        regions: The tensors.
        read: Returns of one of them what is read.
    """
    detected = np.zeros(cases.count, dtype=bool)
    held = {memory.names[r.name]: r for r in regions}
    others = ~np.isin(cases.region, list(held))
    found = [[a[others] for a in (cases.case, cases.region, cases.word, cases.raw)]]
    for position, region in held.items():
        mine = cases.region == position
        case, word, raw, noticed = read(region, cases.case[mine], cases.word[mine], cases.raw[mine])
        detected[noticed] = True
        found.append([case, np.full(len(case), position), word, raw])
    case, where, word, raw = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((word, where, case))
    case, where, word, raw = (a[order] for a in (case, where, word, raw))
    changed = raw != memory.raw(where, word)
    left = Cases(cases.count, *(a[changed] for a in (case, where, word, raw)))
    return Guarded.of(left, detected)


class ReadAnew(Protocol):
    """How one tensor's words are read under each case."""

    def __call__(
        self, region: Region, case: np.ndarray, word: np.ndarray, raw: np.ndarray, /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return case, word and raw value of what is read, and the cases that are noticed.

        Args:
            region: The tensor.
            case: (m,) of each changed word.
            word: (m,) its position.
            raw: (m,) what it is now.
        """


class Standing(Protocol):
    """What all defenses say of themselves: frozen dataclasses with their parameters as fields."""

    stage: ClassVar[Stage]
    revision: ClassVar[int]

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if it cannot stand at such a model."""

    def cost(self, deployed: Implementation) -> Cost:
        """Return what it takes at the model that it protects."""


@runtime_checkable
class Evadable(Standing, Protocol):
    """A defense that somebody who knows it evades by further flips."""

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return for each of some flips the bits that an attacker flips who knows the defense.

        Args:
            deployed: Without faults.
            numbers: Of the bits that are to stay flipped, in the order in which they flip.
            constraint: Which other bits of the memory can flip beside those; what is chosen is
                added to it. It does not bind a guard's own bits.

        Returns:
            Their numbers, the wanted one among them; those of a guard are counted on from the
            memory's.
        """


@runtime_checkable
class Fitted(Standing, Protocol):
    """A defense that its owner fits to the model with clean inputs before it stands there."""

    def fitted(
        self, deployed: Implementation, clean: Tensor, rng: Stream, *, memory: int | None = None
    ) -> Defense:
        """Return the defense that stands at a model.

        Args:
            deployed: Without faults.
            clean: (n, *shape) inputs that nobody touched.
            rng: Of what it draws.
            memory: Bytes that this may take; as it comes if omitted.
        """

    @property
    def fit(self) -> dict[str, Any]:
        """What fitting chose, as plain JSON data by what it is called; empty if nothing."""


@runtime_checkable
class MemoryGuard(Evadable, Protocol):
    """Adds bits to a memory, or none, and mends or checks words when they are read."""

    def storage(self, memory: Memory) -> int:
        """Return how many bits the guard adds that can be struck."""

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return what is read of a memory under each case.

        Args:
            memory: Without faults; the guard was made on it.
            cases: What changed in it.
            own: What changed in the guard's own bits.
        """


@runtime_checkable
class ProductCheck(Evadable, Protocol):
    """Notices wrong sums and leaves them as they are."""

    def limits(self, deployed: Implementation, clean: Tensor) -> Mapping[int, float]:
        """Return by layer the largest difference without alarm, by (n, *shape) clean inputs."""

    def alarms(
        self, deployed: Implementation, cases: Cases, x: Tensor, limits: Mapping[int, float]
    ) -> np.ndarray:
        """Return (cases, images) bool, which inferences raise an alarm.

        Args:
            deployed: As loaded, when the sums were taken.
            cases: What changed in its memory since.
            x: (images, *shape) inputs.
            limits: As `limits` returned them.
        """

    def alarms_of_upsets(
        self, deployed: Implementation, upsets: Upsets, x: Tensor, limits: Mapping[int, float]
    ) -> np.ndarray:
        """Return (cases,) bool, which upsets raise an alarm in an inference that they strike.

        Args:
            deployed: As loaded.
            upsets: Of outputs on x.
            x: (images, *shape) inputs.
            limits: As `limits` returned them.
        """


@runtime_checkable
class Restriction(Standing, Protocol):
    """Puts operations into a deployed network, or changes its words."""

    def protected(self, implementation: Implementation, clean: Tensor) -> Implementation:
        """Return the network with them; `clean` are (n, *shape) inputs that nobody touched."""


class Reading(Protocol):
    """How words of memory are read, where a defense mends them."""

    def values(self, region: Region, words: Tensor) -> Tensor:
        """Return the numbers that a tensor's words, (n,), are read as, (n,)."""


Defense: TypeAlias = MemoryGuard | Restriction | ProductCheck
