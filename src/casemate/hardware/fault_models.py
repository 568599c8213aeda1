"""What a fault does where it falls: bits inverted, stuck, in bursts, words replaced.

A placement says where. Each model turns sites into cases; a case that changes nothing still counts,
as a fault that was there and did no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from casemate.errors import ParameterError, UsageError
from casemate.hardware.cases import flips, merged
from casemate.hardware.parameters import check_whole

if TYPE_CHECKING:
    from casemate.hardware.cases import Cases
    from casemate.hardware.memory import Memory
    from casemate.hardware.placement import Placement

__all__ = [
    "BitErrorRate",
    "BitFlips",
    "Burst",
    "FaultAtBit",
    "FaultModel",
    "RandomValue",
    "StuckAt",
]


class FaultModel(Protocol):
    """A frozen dataclass that makes cases of sites."""

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases, independent of each other.

        Args:
            memory: Without faults.
            placement: Where faults fall.
            rng: What they are drawn by.
            n: How many cases.

        Raises:
            UsageError: If the placement has too few bits, or cannot have such faults.
        """


class FaultAtBit(Protocol):
    """A fault model whose faults have a bit each where they strike."""

    def at(self, memory: Memory, number: np.ndarray, rng: np.random.Generator) -> Cases:
        """Return one case for each bit that is struck.

        Args:
            memory: Without faults.
            number: (n,) int64 of the bits.
            rng: What is left to chance then is drawn by.
        """


@dataclass(frozen=True, kw_only=True)
class BitFlips:
    """Inverts bits, as particles do that strike a memory (soft errors).

    Attributes:
        bits: How many different bits a case, drawn by the placement.
    """

    bits: int = 1

    def __post_init__(self) -> None:
        check_whole("bits", self.bits)

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases of `bits` inverted bits each.

        Raises:
            UsageError: If the placement has fewer bits.
        """
        if self.bits == 1:
            return self.at(memory, placement.draw(memory, rng, n), rng)
        drawn = [placement.draw(memory, rng, self.bits, replace=False) for _ in range(n)]
        return _flipped(memory, drawn)

    def at(
        self,
        memory: Memory,
        number: np.ndarray,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is left to chance
    ) -> Cases:
        """Return a case for each bit, inverted alone."""
        return flips(memory, np.arange(len(number)), number, len(number))


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Inverts neighbors in memory, as one event does that upsets several cells.

    From the drawn bit on to higher addresses, from a byte's least significant bit to its most
    significant one; cut where the tensor ends. That neighbors in addresses are neighbors on the
    chip is ours: memories interleave.

    Attributes:
        length: Bits.
    """

    length: int

    def __post_init__(self) -> None:
        check_whole("length", self.length)

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases of one burst each.

        Raises:
            UsageError: If neighbors cannot change together there.
        """
        _check_independent(placement, "a burst")
        return self.at(memory, placement.draw(memory, rng, n), rng)

    def at(
        self,
        memory: Memory,
        number: np.ndarray,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is left to chance
    ) -> Cases:
        """Return a burst for each bit, from there on."""
        ends = np.array([memory.span(r.name)[1] for r in memory.regions], dtype=np.int64)
        length = np.minimum(self.length, ends[memory.locate(number)[0]] - number)
        # words are little-endian without gaps: inside a tensor bits are numbered as they lie
        within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
        case = np.repeat(np.arange(len(number)), length)
        return flips(memory, case, np.repeat(number, length) + within, len(number))


@dataclass(frozen=True, kw_only=True)
class StuckAt:
    """Makes a bit read one value, as a defective cell does.

    A bit that has the value already stays as it is; such a case changes nothing and counts.

    Attributes:
        value: 0 or 1.
    """

    value: Literal[0, 1]

    def __post_init__(self) -> None:
        check_whole("value", self.value, low=0, high=1)

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases of one stuck bit each."""
        return self.at(memory, placement.draw(memory, rng, n), rng)

    def at(
        self,
        memory: Memory,
        number: np.ndarray,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is left to chance
    ) -> Cases:
        """Return a case for each bit, stuck."""
        case = np.flatnonzero(memory.read(number) != self.value)
        return flips(memory, case, number[case], len(number))


@dataclass(frozen=True, kw_only=True)
class RandomValue:
    """Replaces a word by a random one, each of its kind as likely as any other.

    It is the word of the drawn bit, so a word is drawn in proportion to its bits. The word that was
    there is among those that may be drawn.
    """

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases of one replaced word each.

        Raises:
            UsageError: If a word's bits cannot change together there.
        """
        _check_independent(placement, "a random value")
        return self.at(memory, placement.draw(memory, rng, n), rng)

    def at(self, memory: Memory, number: np.ndarray, rng: np.random.Generator) -> Cases:
        """Return a case for each bit, whose word is replaced."""
        region, word, _ = memory.locate(number)
        values = np.array([1 << r.word.bits for r in memory.regions], dtype=np.int64)
        # a word inverted by a uniform mask is a uniform word
        mask = rng.integers(0, values[region])
        return merged(memory, np.arange(len(number)), region, word, mask, len(number))


@dataclass(frozen=True, kw_only=True)
class BitErrorRate:
    """Inverts each bit of the placement with the same probability, independently.

    As memories at too low a voltage or too long between refreshes do. The number of inverted bits
    is binomial, and given that, each set of as many bits is as likely as any other. The flips of
    all cases are held at once, which takes memory in proportion to them.

    Attributes:
        rate: Probability of one bit, from 0 to 1.
    """

    rate: float

    def __post_init__(self) -> None:
        rate: Any = self.rate
        if (
            isinstance(rate, bool)
            or not isinstance(rate, (int, float))
            or not math.isfinite(rate)
            or not 0 <= rate <= 1
        ):
            raise ParameterError("rate", f"must be a probability from 0 to 1, got {rate!r}")

    def cases(
        self, memory: Memory, placement: Placement, rng: np.random.Generator, n: int
    ) -> Cases:
        """Return n cases of a random number of inverted bits each.

        Raises:
            UsageError: If bits cannot change independently there.
        """
        _check_independent(placement, "a bit error rate")
        counts = rng.binomial(placement.population(memory), self.rate, n).tolist()
        return _flipped(memory, [placement.draw(memory, rng, k, replace=False) for k in counts])


def _flipped(memory: Memory, drawn: list[np.ndarray]) -> Cases:
    """Return one case for each array of bits that are inverted."""
    counts = np.array([len(number) for number in drawn], dtype=np.int64)
    case = np.repeat(np.arange(len(drawn)), counts)
    number = np.concatenate([np.zeros(0, dtype=np.int64), *drawn])
    return flips(memory, case, number, len(drawn))


def _check_independent(placement: Placement, fault: str) -> None:
    if not placement.independent:
        raise UsageError(
            f"{fault} changes bits that lie together, and {type(placement).__name__} can only "
            "change some of them; use bit flips or another placement"
        )
