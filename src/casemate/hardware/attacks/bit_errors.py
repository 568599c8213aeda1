"""Bit errors: every bit of memory may be wrong, with the same probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.aftermath import Aftermath
from casemate.hardware.attacks.attack import Observed
from casemate.hardware.defenses.guarding import split
from casemate.hardware.defenses.noticing import noticed
from casemate.hardware.distinct import distinct
from casemate.hardware.parameters import check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.hardware.strata import all_bits
from casemate.stats import mean, rate
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.hardware.bench import Bench
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Role

__all__ = ["BitErrors"]

_MOST_FLIPS = 1 << 26  # of all draws together: 512 MiB of int64


@dataclass(frozen=True, kw_only=True)
class BitErrors:
    """Inverts each bit with the same probability, independently.

    As memories do at too low a voltage or too long between refreshes (Kim et al., "MATIC: learning
    around errors for efficient low-voltage neural network accelerators", DATE 2018; Stutz et al.,
    "Bit error robustness for energy-efficient DNN accelerators", MLSys 2021, arXiv 2006.13977, who
    read accuracy over random bit errors as here). The bits that a guard adds to memory are as
    likely to be wrong.

    Attributes:
        rate: Probability of each bit, in [0, 1].
        draws: How often errors are drawn; the accuracy's interval is over these.
        roles: Which words: "weight", "bias", "norm", "scale", "zero point".
        layers: Names of the layers; all if omitted.
    """

    rate: float
    draws: int = 20
    roles: tuple[Role, ...] = ("weight", "bias", "norm", "scale", "zero point")
    layers: tuple[str, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="probability of a bit of memory",
    )
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ("accuracy under attack", "bits flipped")

    def __post_init__(self) -> None:
        check_number("rate", self.rate, low=0.0, high=1.0)
        check_whole("draws", self.draws)
        Everywhere(roles=self.roles, layers=self.layers)  # refuses what is none of them

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist, or the errors of all draws are too many."""
        memory = deployed.memory
        among = Everywhere(roles=self.roles, layers=self.layers)
        bits = all_bits(memory, among.regions(memory)).population
        if bits * self.rate * self.draws > _MOST_FLIPS:
            raise ParameterError(
                "draws",
                f"is {self.draws}, which at this rate makes {bits * self.rate * self.draws:.3g} "
                f"wrong bits in all; ask for at most {int(_MOST_FLIPS / bits / self.rate)}",
            )

    def forwards(self, layers: int, images: int) -> int:
        """Return how many inputs run through the model at most.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        del layers
        return (self.draws + 1) * images

    def observe(
        self, bench: Bench, *, progress: Callable[[int, int], None] | None = None
    ) -> Observed:
        """Return the accuracy under errors.

        Args:
            bench: The deployed model and what stands beside it.
            progress: Called with draws done and draws in all.
        """
        memory, guard = bench.defended.memory, bench.guard
        among = Everywhere(roles=self.roles, layers=self.layers)
        bits = all_bits(memory, among.regions(memory))
        more = guard.storage(memory) if guard is not None else 0
        rng = bench.rng.child("bit errors").numpy()
        counts = rng.binomial(bits.population + more, self.rate, self.draws)
        drawn = [distinct(rng, bits.population + more, k) for k in counts.tolist()]
        rank = np.concatenate([np.zeros(0, dtype=np.int64), *drawn])
        own = rank >= bits.population
        number = np.where(own, memory.bits + rank - bits.population, 0)
        number[~own] = bits.at(rank[~own])
        case = np.repeat(np.arange(self.draws), counts)
        struck, own_flips = split(memory, case, number, self.draws)
        cases = struck
        if guard is not None:
            cases = guard.guarded(memory, struck, own_flips).cases
        labels = bench.evaluation.labels
        accuracies = []
        for i, predicted in enumerate(Aftermath(bench.defended, bench.evaluation.x, cases)):
            accuracies.append(float((predicted == labels).double().mean()))
            if progress is not None:
                progress(i + 1, self.draws)
        measurements = [
            mean("accuracy under attack", accuracies, "1"),
            mean("bits flipped", counts.astype(float).tolist(), "bits"),
        ]
        seen = noticed(bench, struck, own_flips)
        if seen is not None:
            wrong = counts > 0
            measurements += [
                rate("faults detected", int(seen.detected[wrong].sum()), int(wrong.sum())),
                rate("faults repaired", int(seen.repaired[wrong].sum()), int(wrong.sum())),
            ]
        return Observed(
            measurements=tuple(measurements),
            tables={"draws": {"bits flipped": counts.tolist(), "accuracy": accuracies}},
            spent={"faults": int(counts.sum()), "bits that can be struck": bits.population + more},
        )
