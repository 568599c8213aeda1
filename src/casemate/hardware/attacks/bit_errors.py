"""Bit errors: every bit of memory may be wrong, with the same probability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.aftermath import Aftermath
from casemate.hardware.attacks.attack import Observed
from casemate.hardware.defenses.guarding import Evadable, split
from casemate.hardware.defenses.noticing import noticed
from casemate.hardware.distinct import distinct
from casemate.hardware.parameters import check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.hardware.strata import all_bits
from casemate.stats import mean, rate, widened, wilson
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Role
    from casemate.stats import Measurement

__all__ = ["BitErrors"]

_MOST_FLIPS = 1 << 25  # of one draw; a guard takes up to 300 bytes for each


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
        _ = self.among  # refuses what is none of them

    @property
    def among(self) -> Everywhere:
        """The bits that may be wrong."""
        return Everywhere(roles=self.roles, layers=self.layers)

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist, or one draw makes too many errors."""
        expected = self.among.population(deployed.memory) * self.rate
        if expected > _MOST_FLIPS:
            raise ParameterError(
                "rate",
                f"is {self.rate:g}, which makes {expected:.3g} wrong bits in one draw; at most "
                f"{_MOST_FLIPS / expected * self.rate:.3g} fits into memory",
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
        drawn = _Drawn(self, bench)
        labels = bench.evaluation.labels
        after = Aftermath(bench.defended, bench.evaluation.x)
        accuracies, seen, counts = [], [], []
        for i in range(self.draws):
            struck, own = drawn.errors()
            counts.append(drawn.count)
            found = noticed(bench, struck, own) if drawn.count else None
            read = struck if found is None else found.cases
            accuracies.append(float((after.under(read) == labels).double().mean()))
            if found is not None:
                seen.append(found)
            if progress is not None:
                progress(i + 1, self.draws)
        measurements = [
            _accuracy(accuracies, len(labels)),
            mean("bits flipped", [float(c) for c in counts], "bits"),
        ]
        if isinstance(bench.defense, Evadable):  # one that notices
            measurements += [
                rate("faults detected", sum(bool(one.detected[0]) for one in seen), len(seen)),
                rate("faults repaired", sum(bool(one.repaired[0]) for one in seen), len(seen)),
            ]
        return Observed(
            measurements=tuple(measurements),
            tables={"draws": {"bits flipped": counts, "accuracy": accuracies}},
            spent={
                "faults": sum(counts),
                "bits that can be struck": drawn.population,
                "verifier forward": self.draws * len(labels),
            },
        )


class _Drawn:
    """Errors drawn one set after another, in the memory and in what a guard adds to it.

    Attributes:
        population: Bits that can be wrong.
        count: How many of them were in the last draw.
    """

    def __init__(self, attack: BitErrors, bench: Bench) -> None:
        self._memory, self._rate = bench.defended.memory, attack.rate
        self._bits = all_bits(self._memory, attack.among.regions(self._memory))
        more = bench.guard.storage(self._memory) if bench.guard is not None else 0
        self.population = self._bits.population + more
        self.count = 0
        self._rng = bench.rng.child("bit errors").numpy()

    def errors(self) -> tuple[Cases, OwnFlips]:
        """Return one case of errors."""
        self.count = int(self._rng.binomial(self.population, self._rate))
        rank = distinct(self._rng, self.population, self.count)
        own = rank >= self._bits.population
        number = np.where(own, self._memory.bits + rank - self._bits.population, 0)
        number[~own] = self._bits.at(rank[~own])
        return split(self._memory, np.zeros(len(number), dtype=np.int64), number, 1)


def _accuracy(accuracies: Sequence[float], images: int) -> Measurement:
    """Return the mean accuracy over draws, no surer than the images leave it.

    Student's interval is over the draws, all of them on the same images.
    """
    found = mean("accuracy under attack", accuracies, "1")
    assert found.value is not None  # noqa: S101 - there is a draw
    low, high = wilson(round(found.value * images), images)
    wide = widened(found, low, high)
    assert wide.low is not None  # noqa: S101 - it is as low as `low`
    assert wide.high is not None  # noqa: S101 - as above
    return replace(wide, low=max(0.0, wide.low), high=min(1.0, wide.high))
