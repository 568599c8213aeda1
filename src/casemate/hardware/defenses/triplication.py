"""Triplication: three copies of the words of some layers, and the majority of each bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.cases import Cases, flips
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.defenses.ecc import wrong_bits
from casemate.hardware.defenses.guarding import Guarded, OwnFlips
from casemate.hardware.defenses.most_sensitive import layers_of, most_sensitive
from casemate.hardware.parameters import check_whole
from casemate.hardware.strata import all_bits
from casemate.threats import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region
    from casemate.random import Stream

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
    same bit in two of them.

    Ours: which layers are worth their storage, `most_sensitive` estimates on the inputs that the
    defender calibrates on, where `most` asks for it.

    Attributes:
        layers: Names of the layers; all if empty.
        most: In their place how many layers, those in which one wrong bit does most on average.
    """

    layers: tuple[str, ...] = ()
    most: int | None = None

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if len(set(self.layers)) < len(self.layers):
            raise ParameterError("triplication.layers", "names a layer twice; name each once")
        if self.most is not None:
            check_whole("triplication.most", self.most)
            if self.layers:
                raise ParameterError(
                    "triplication.most",
                    f"is {self.most}, but layers names some; give one of both",
                )

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist, or there are not as many."""
        deployed.memory.where(layers=self.layers or None)
        there = len(layers_of(deployed.memory))
        if self.most is not None and self.most > there:
            raise ParameterError(
                "triplication.most",
                f"is {self.most}, but the model has {there} layers with weights; give at "
                f"most {there}",
            )

    def fitted(
        self, deployed: Implementation, clean: Tensor, rng: Stream, *, memory: int | None = None
    ) -> Triplication:
        """Return it with the names of the most sensitive layers, if it asks for them.

        Args:
            deployed: Without faults.
            clean: (n, *shape) inputs that nobody touched.
            rng: Of the faults that are tried.
            memory: Bytes that this may take; as it comes if omitted.
        """
        if self.most is None:
            return self
        chosen = most_sensitive(deployed, clean, self.most, rng, memory=memory)
        return replace(self, layers=chosen, most=None)

    @property
    def fit(self) -> dict[str, Any]:
        """The layers that are kept three times, unless all are."""
        return {"layers kept three times": list(self.layers)} if self.layers else {}

    def cost(self, deployed: Implementation) -> Cost:
        """Return the copies, and the four bitwise operations of a majority for each word."""
        kept = self._kept(deployed.memory)
        words = sum(r.count for r in kept)
        return Cost(bits=self.storage(deployed.memory), operations=_MAJORITY * words)

    def evading(
        self,
        deployed: Implementation,
        numbers: Sequence[int],
        *,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Return each bit with the same one of the first copy; alone where it is not copied."""
        del constraint  # copies are the guard's own
        memory = deployed.memory
        ranks = self._rank(memory, np.array(numbers, dtype=np.int64)).tolist()
        return [
            [n] if rank < 0 else [n, memory.bits + rank]
            for n, rank in zip(numbers, ranks, strict=True)
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
        kept = all_bits(memory, self._kept(memory))
        copied = self._rank(memory, number) >= 0
        detected = np.zeros(cases.count, dtype=bool)
        detected[case[copied]] = True
        outside = case[~copied], number[~copied]
        # a bit of a case is lost where two of its copies are wrong
        votes_case, votes = case[copied], number[copied]
        if own is not None:
            detected[own.case] = True
            votes_case = np.concatenate([votes_case, own.case])
            votes = np.concatenate([votes, kept.at(own.bit % kept.population)])
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
        if self.most is not None:
            raise ParameterError(
                "triplication.most",
                f"is {self.most}, but which layers these are is not known yet; call fitted first",
            )
        return memory.where(layers=self.layers or None)

    def _rank(self, memory: Memory, number: np.ndarray) -> np.ndarray:
        """Return which of the bits that are kept three times each bit is, (n,); -1 if none."""
        bits = all_bits(memory, self._kept(memory))
        piece = np.searchsorted(bits.first, number, side="right") - 1
        within = number - bits.first[piece]
        inside = (piece >= 0) & (within < bits.count[piece])
        before = np.cumsum(bits.count) - bits.count
        rank: np.ndarray = np.where(inside, before[piece] + within, -1)
        return rank
