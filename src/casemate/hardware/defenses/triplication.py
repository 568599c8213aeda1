"""Triplication: three copies of the words of some layers, and the majority of each bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.cases import Cases, flips
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.ecc import wrong_bits
from casemate.hardware.defenses.guarding import Guarded, OwnFlips
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region

__all__ = ["Triplication"]

_COPIES = 2  # beside the words themselves
_MAJORITY = 4  # operations: (a & b) | (c & (a | b))


@dataclass(frozen=True, kw_only=True)
class Triplication:
    """Keeps some layers three times and reads, bit by bit, what two of the three copies hold.

    Lyons and Vanderkulk, "The use of triple-modular redundancy to improve computer reliability",
    IBM Journal of Research and Development 6(2), 1962, doi 10.1147/rd.62.0200, applied to memory.
    One wrong bit is always outvoted, and noticed as the copies differ; two wrong copies of the same
    bit win. Random faults seldom meet so; an attacker who knows the copies' addresses flips the
    same bit in two of them. Which layers are worth their storage, an estimate of corruption by
    layer says.

    Attributes:
        layers: Names of the layers; all if empty.
    """

    layers: tuple[str, ...] = ()

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if len(set(self.layers)) < len(self.layers):
            raise ParameterError("triplication.layers", "names a layer twice; name each once")

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist."""
        self._kept(deployed.memory)

    def cost(self, deployed: Implementation) -> Cost:
        """Return the copies, and the four bitwise operations of a majority for each word."""
        kept = self._kept(deployed.memory)
        words = sum(r.count for r in kept)
        return Cost(bits=self.storage(deployed.memory), operations=_MAJORITY * words)

    def evading(self, memory: Memory, numbers: Sequence[int]) -> list[list[int]]:
        """Return each bit with the same one of the first copy; alone where it is not copied."""
        kept = self._bits(memory)
        place = np.searchsorted(kept, numbers)
        return [
            [n, memory.bits + i] if i < len(kept) and kept[i] == n else [n]
            for n, i in zip(numbers, place.tolist(), strict=True)
        ]

    def storage(self, memory: Memory) -> int:
        """Return the bits of the two copies.

        Raises:
            UsageError: If a layer does not exist.
        """
        return _COPIES * sum(r.bits for r in self._kept(memory))

    def guarded(self, memory: Memory, cases: Cases, own: OwnFlips | None = None) -> Guarded:
        """Return the majority of all copies.

        The guard's own bits are those of the first copy in the order of the memory, then those of
        the second.

        Raises:
            UsageError: If a layer does not exist.
        """
        case, number = wrong_bits(memory, cases)
        kept = self._bits(memory)
        copied = np.isin(number, kept)
        detected = np.zeros(cases.count, dtype=bool)
        detected[case[copied]] = True
        outside = case[~copied], number[~copied]
        # a bit of a case is lost where two of its copies are wrong
        votes_case, votes = case[copied], number[copied]
        if own is not None:
            detected[own.case] = True
            votes_case = np.concatenate([votes_case, own.case])
            votes = np.concatenate([votes, kept[own.bit % len(kept)]])
        pairs, wrong = np.unique(np.stack([votes_case, votes]), axis=1, return_counts=True)
        lost = pairs[:, wrong > 1]
        left = flips(
            memory,
            np.concatenate([outside[0], lost[0]]),
            np.concatenate([outside[1], lost[1]]),
            cases.count,
        )
        return Guarded.of(left, detected)

    def _kept(self, memory: Memory) -> tuple[Region, ...]:
        return memory.where(layers=self.layers or None)

    def _bits(self, memory: Memory) -> np.ndarray:
        """Return the numbers of all bits that are kept three times, ascending."""
        return np.concatenate([np.arange(*memory.span(r.name)) for r in self._kept(memory)])
