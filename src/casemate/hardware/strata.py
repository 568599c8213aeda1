"""Sets of bits of any size, of which strata are those with one place in the words of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import UsageError
from casemate.hardware.distinct import distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.hardware.memory import Memory, Region

__all__ = ["MOST_AT_ONCE", "Bits", "Stratum", "all_bits", "check_listed", "stratum"]

MOST_AT_ONCE = 1 << 28
"""Bits whose numbers one array may list: 2 GiB of int64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bits:
    """A set of bits as a few arithmetic progressions of their numbers.

    What it takes does not depend on how many bits there are, so all bits of a model with 100
    million weights fit.

    Attributes:
        first: (p,) int64, number of each progression's first bit.
        step: (p,) int64, from one to the next.
        count: (p,) int64, how many bits.
    """

    first: np.ndarray
    step: np.ndarray
    count: np.ndarray

    @cached_property
    def _ends(self) -> np.ndarray:
        ends: np.ndarray = np.cumsum(self.count)
        return ends

    @property
    def population(self) -> int:
        """How many bits."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def at(self, rank: np.ndarray) -> np.ndarray:
        """Return the numbers of the bits that are `rank`-th, (n,) int64, counted from 0."""
        piece = np.searchsorted(self._ends, rank, side="right")
        within = rank - (self._ends - self.count)[piece]
        numbers: np.ndarray = self.first[piece] + self.step[piece] * within
        return numbers

    def numbers(self) -> np.ndarray:
        """Return all numbers, (population,) int64, one progression after another.

        Raises:
            UsageError: If there are more than `MOST_AT_ONCE`.
        """
        check_listed(self.population)
        return self.at(np.arange(self.population))

    def draw(self, rng: np.random.Generator, n: int, *, replace: bool = True) -> np.ndarray:
        """Return the numbers of n bits, each as likely as any other, (n,) int64 in random order.

        Raises:
            UsageError: If there are none, or without replacement fewer than n.
        """
        if n and not self.population:
            raise UsageError(
                "the chosen tensors of the deployed model hold no numbers, so there is no bit to "
                "draw; choose other roles or layers"
            )
        if replace:
            return self.at(rng.integers(0, max(1, self.population), n))
        if n > self.population:
            raise UsageError(
                f"{n} different bits are asked for, but the chosen tensors of the deployed model "
                f"have {self.population}; ask for fewer, or choose more roles or layers"
            )
        return self.at(distinct(rng, self.population, n))


@dataclass(frozen=True, kw_only=True, eq=False)
class Stratum(Bits):
    """The bits of one layer with the same place in their words.

    Attributes:
        layer: Its name.
        bit: Place in the word; 0 is the least significant.
    """

    layer: str
    bit: int

    @property
    def name(self) -> tuple[str, int]:
        """Layer and bit."""
        return self.layer, self.bit


def all_bits(memory: Memory, regions: Sequence[Region]) -> Bits:
    """Return all bits of some tensors, in their order."""
    return Bits(
        first=np.array([memory.span(r.name)[0] for r in regions], dtype=np.int64),
        step=np.ones(len(regions), dtype=np.int64),
        count=np.array([r.bits for r in regions], dtype=np.int64),
    )


def stratum(memory: Memory, layer: str, bit: int, regions: Sequence[Region]) -> Stratum:
    """Return the bits at one place in all words of some tensors of a layer."""
    return Stratum(
        layer=layer,
        bit=bit,
        first=np.array([memory.span(r.name)[0] + bit for r in regions], dtype=np.int64),
        step=np.array([r.word.bits for r in regions], dtype=np.int64),
        count=np.array([r.count for r in regions], dtype=np.int64),
    )


def check_listed(population: int) -> None:
    """Raise `UsageError` if that many bits are too many to be listed at once."""
    if population > MOST_AT_ONCE:
        raise UsageError(
            f"{population} bits are too many to list at once, which {MOST_AT_ONCE} are not; draw "
            "from them, or choose fewer roles or layers"
        )
