"""Which faults there are: populations of bits by rank, parts of them, and draws from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from casemate.hardware.strata import all_bits, stratum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.hardware.memory import Memory, Region
    from casemate.hardware.upsets import Outputs, Sites

__all__ = [
    "Draws",
    "Faults",
    "Stratum",
    "Values",
    "bits_of",
    "strata_of",
    "strata_of_upsets",
    "upsets_of",
]


class Values(Protocol):
    """Gives faults their values."""

    def __call__(self, numbers: np.ndarray, /) -> np.ndarray:
        """Return (n,) values of faults by the numbers of their bits, (n,) int64."""


class Faults(Protocol):
    """Some faults, each of which has a rank."""

    @property
    def population(self) -> int:
        """How many there are."""

    def at(self, rank: np.ndarray, /) -> np.ndarray:
        """Return the numbers of the bits with these ranks, (n,) int64 in [0, population)."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """A part of a population whose faults are thought to be alike.

    Attributes:
        name: Of the part.
        population: How many faults it has.
        at: From ranks in [0, population) to the numbers of bits, (n,) int64 both.
        group: Name of what it shares with the strata that are most like it.
    """

    name: str
    population: int
    at: Callable[[np.ndarray], np.ndarray]
    group: str = ""


def bits_of(memory: Memory, regions: Sequence[Region]) -> Stratum:
    """Return all bits of some regions as one population, in the order of the regions."""
    bits = all_bits(memory, regions)
    return Stratum(name="all", population=bits.population, at=bits.at)


def strata_of(memory: Memory, regions: Sequence[Region]) -> list[Stratum]:
    """Return the bits of each tensor by their position in the word.

    Tensors and not layers: a layer's weights, biases and scales are held in different words, where
    bits of the same position weigh differently.
    """
    return [_position(memory, r, bit) for r in regions for bit in range(r.word.bits) if r.count]


def _position(memory: Memory, region: Region, bit: int) -> Stratum:
    bits = stratum(memory, region.layer, bit, [region])
    return Stratum(
        name=f"{region.name} bit {bit}",
        population=bits.population,
        at=bits.at,
        group=region.name,
    )


def upsets_of(sites: Sites, images: int) -> Stratum:
    """Return all upsets of some outputs' bits as one population.

    Args:
        sites: The bits.
        images: How many a bit can be upset on, each an upset of its own: upset number
            b * images + i strikes bit b on image i. 1 if an upset strikes all.
    """
    return Stratum(name="all", population=sites.bits * images, at=np.asarray)


def strata_of_upsets(sites: Sites, images: int) -> list[Stratum]:
    """Return the upsets of each node's output by the position in the word; see `upsets_of`."""
    return [
        _place(output, int(start), bit, images)
        for output, start in zip(sites.outputs, sites.starts, strict=True)
        for bit in range(output.bits)
    ]


def _place(output: Outputs, start: int, bit: int, images: int) -> Stratum:
    def at(rank: np.ndarray) -> np.ndarray:
        element, image = rank // images, rank % images
        numbers: np.ndarray = (start + element * output.bits + bit) * images + image
        return numbers

    return Stratum(
        name=f"{output.name} bit {bit}",
        population=output.count * images,
        at=at,
        group=f"{output.node}",
    )


class Draws:
    """Ranks in random order, each once, as many as are asked for.

    It remembers what it drew, which takes memory in proportion to that and not to the population,
    until half of it is drawn.

    Args:
        population: How many ranks there are.
        rng: What they are drawn by.
    """

    def __init__(self, population: int, rng: np.random.Generator) -> None:
        self.population = population
        self._rng = rng
        self._seen = np.zeros(0, dtype=np.int64)  # ascending
        self._rest: np.ndarray | None = None  # in random order, once few are left

    @property
    def left(self) -> int:
        """How many were not drawn yet."""
        return len(self._rest) if self._rest is not None else self.population - len(self._seen)

    def take(self, count: int) -> np.ndarray:
        """Return the next ranks, (n,) int64; fewer than `count` only where no more are left."""
        count = min(count, self.left)
        if self._rest is None and 2 * (len(self._seen) + count) > self.population:
            unseen = np.ones(self.population, dtype=bool)
            unseen[self._seen] = False
            self._rest = self._rng.permutation(np.flatnonzero(unseen))
        if self._rest is not None:
            taken, self._rest = self._rest[:count], self._rest[count:]
            return taken
        found = np.zeros(0, dtype=np.int64)
        while len(found) < count:
            drawn = self._rng.integers(0, self.population, 2 * (count - len(found)) + 8)
            drawn = drawn[~np.isin(drawn, self._seen)]
            # of those that were drawn twice the first counts, so that all orders are as likely
            both = np.concatenate([found, drawn])
            found = both[np.sort(np.unique(both, return_index=True)[1])]
        found = found[:count]
        self._seen = np.union1d(self._seen, found)
        return found
