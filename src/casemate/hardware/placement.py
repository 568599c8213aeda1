"""Where faults fall: which bits of memory are meant, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, get_args

from casemate.hardware.memory import Role
from casemate.hardware.parameters import check_names
from casemate.hardware.strata import all_bits, stratum

if TYPE_CHECKING:
    import numpy as np

    from casemate.hardware.memory import Memory, Region
    from casemate.hardware.strata import Bits, Stratum

__all__ = ["Everywhere", "Placement"]


class Placement(Protocol):
    """A frozen dataclass that says which bits faults fall on, each as likely as any other.

    Attributes:
        independent: Whether any of its bits can change together, whole words among them.
    """

    independent: ClassVar[bool]

    def population(self, memory: Memory) -> int:
        """Return how many bits there are."""

    def numbers(self, memory: Memory) -> np.ndarray:
        """Return the numbers of all of them, ascending int64, for exhaustive runs.

        Raises:
            UsageError: If there are more than `strata.MOST_AT_ONCE`.
        """

    def draw(
        self, memory: Memory, rng: np.random.Generator, n: int, *, replace: bool = True
    ) -> np.ndarray:
        """Return the numbers of random bits, (n,) int64, in random order.

        Args:
            memory: Without faults.
            rng: What they are drawn by.
            n: How many.
            replace: Whether each is drawn for itself; if not, they are different bits that can
                change together.

        Raises:
            UsageError: If there are not that many.
        """


@dataclass(frozen=True, kw_only=True)
class Everywhere:
    """All bits of some tensors, each bit as likely as any other.

    Uniform over bits, as particles and failing cells are; not over layers or tensors, as where a
    layer is drawn first, then a weight. That draws bits of small layers too often: on LeNet it
    overstates the mean rate of silent data corruption 7.6 times.

    Attributes:
        roles: Which tensors: "weight", "bias", "norm", "scale", "zero point".
        layers: Names of layers; all if omitted.
    """

    roles: tuple[Role, ...] = ("weight",)
    layers: tuple[str, ...] | None = None

    independent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_names("roles", self.roles, get_args(Role))
        check_names("layers", self.layers)

    def population(self, memory: Memory) -> int:
        """Return how many bits there are."""
        return self._bits(memory).population

    def numbers(self, memory: Memory) -> np.ndarray:
        """Return the numbers of all bits, (population,) int64, ascending.

        Raises:
            UsageError: If a layer does not exist, or there are more than `strata.MOST_AT_ONCE`.
        """
        return self._bits(memory).numbers()

    def draw(
        self, memory: Memory, rng: np.random.Generator, n: int, *, replace: bool = True
    ) -> np.ndarray:
        """Return the numbers of random bits, (n,) int64, in random order.

        Raises:
            UsageError: If a layer does not exist, or without replacement there are fewer than n.
        """
        return self._bits(memory).draw(rng, n, replace=replace)

    def regions(self, memory: Memory) -> tuple[Region, ...]:
        """Return the tensors.

        Raises:
            UsageError: If a layer does not exist, or nothing is left.
        """
        return memory.where(roles=self.roles, layers=self.layers)

    def strata(self, memory: Memory) -> tuple[Stratum, ...]:
        """Return the bits by layer, and by their place in the word from 0 on.

        A layer's words of several kinds share a stratum where they have that bit.

        Raises:
            UsageError: If a layer does not exist.
        """
        by_layer: dict[str, list[Region]] = {}
        for region in self.regions(memory):
            if region.count:
                by_layer.setdefault(region.layer, []).append(region)
        return tuple(
            stratum(memory, layer, bit, [r for r in regions if bit < r.word.bits])
            for layer, regions in by_layer.items()
            for bit in range(max(r.word.bits for r in regions))
        )

    def _bits(self, memory: Memory) -> Bits:
        return all_bits(memory, self.regions(memory))
