"""Random faults: what one flipped bit does, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from casemate.hardware.attacks.attack import Observed
from casemate.hardware.cases import flips
from casemate.hardware.defenses.noticing import noticed
from casemate.hardware.estimation.exhaustive import exhaustive
from casemate.hardware.estimation.faults import bits_of, strata_of
from casemate.hardware.estimation.harm import Harm
from casemate.hardware.estimation.importance import ImportanceSample
from casemate.hardware.estimation.result import StratumFigures
from casemate.hardware.estimation.scores import bit_scores
from casemate.hardware.estimation.simple import SimpleSample
from casemate.hardware.estimation.stopping import until
from casemate.hardware.estimation.stratified import StratifiedSample
from casemate.hardware.injector import Injector
from casemate.hardware.parameters import check_choice, check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.stats import rate
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.hardware.bench import Bench
    from casemate.hardware.estimation.faults import Values
    from casemate.hardware.estimation.result import Estimate
    from casemate.hardware.estimation.stopping import Sample
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Region, Role

__all__ = ["RandomFaults"]

Estimator = Literal["stratified", "importance", "simple", "exhaustive"]

_ESTIMATORS = ("stratified", "importance", "simple", "exhaustive")
_MEMORY = 4 << 30  # bytes for activations and work; images are done in parts if need be
_NOTICED = 400  # faults on which a defense's notice is measured
_BITS_A_TENSOR = 1 << 17  # about those of LeNet, for estimates of time
_FASTER = 20  # times as fast as a pass a fault, at least, in the measurements of docs/benchmarks.md


@dataclass(frozen=True, kw_only=True)
class RandomFaults:
    """Single flipped bits of memory, each as likely as any other, as by particles.

    The means over all of them of what one does: the share of predictions that it changes (silent
    data corruption), the accuracy that it costs, and the share of faults that are critical. They
    are estimated from some faults, or exact where all are tried (`casemate.hardware.estimation`
    names the sources). The strata, and the map in the report, are the bits of each tensor by their
    place in the word.

    Attributes:
        estimator: "stratified" (Neyman's allocation after a pilot), "importance" (by the share of
            the margin that a flip takes), "simple", or "exhaustive": all faults.
        tolerance: Longer half of each interval at which sampling ends, as a share of the mean.
        budget: Faults at most for each of the three means.
        critical: A fault is critical if it costs more accuracy than that, in [0, 1].
        roles: Which words: "weight", "bias", "norm", "scale", "zero point".
        layers: Names of the layers; all if omitted.
    """

    estimator: Estimator = "stratified"
    tolerance: float = 0.1
    budget: int = 8000
    critical: float = 0.05
    roles: tuple[Role, ...] = ("weight", "bias", "norm", "scale", "zero point")
    layers: tuple[str, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="one bit of memory",
    )
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = (
        "mean corruption",
        "mean accuracy drop",
        "critical faults",
    )

    def __post_init__(self) -> None:
        check_choice("estimator", self.estimator, _ESTIMATORS)
        check_number("tolerance", self.tolerance, low=1e-6)
        check_whole("budget", self.budget)
        check_number("critical", self.critical, low=0.0, high=1.0)
        _ = self.among  # refuses what is none of them

    @property
    def among(self) -> Everywhere:
        """The bits that faults fall on."""
        return Everywhere(roles=self.roles, layers=self.layers)

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist or holds no such words."""
        self.among.regions(deployed.memory)

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model, for estimates of time.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        faults = 3 * self.budget
        if self.estimator == "exhaustive":
            faults = max(faults, layers * _BITS_A_TENSOR)
        return images + faults * images // _FASTER

    def observe(
        self, bench: Bench, *, progress: Callable[[int, int], None] | None = None
    ) -> Observed:
        """Return the means over all faults, and the map.

        Args:
            bench: The deployed model and what stands beside it.
            progress: Called with faults tried and faults in all, at most.
        """
        memory = bench.defended.memory
        regions = [r for r in self.among.regions(memory) if r.count]
        population = sum(r.bits for r in regions)
        most = population if self.estimator == "exhaustive" else min(3 * self.budget, population)
        injector = Injector(bench.defended, bench.evaluation.x, memory=_MEMORY)
        harm = Harm(
            injector,
            bench.evaluation.labels.numpy(),
            guard=bench.guard,
            told=None if progress is None else lambda tried: progress(min(tried, most), most),
        )
        sampled = _Sampled(self, bench, regions, injector)
        means = {
            "mean corruption": sampled.mean(harm.corruption, (0.0, 1.0)),
            "mean accuracy drop": sampled.mean(harm.drop, (-1.0, 1.0)),
            "critical faults": sampled.mean(
                lambda n: (harm.drop(n) > self.critical).astype(np.float64), (0.0, 1.0)
            ),
        }
        measurements = [estimate.measurement(name) for name, estimate in means.items()]
        if bench.defense is not None:
            drawn = self.among.draw(memory, bench.rng.child("noticed").numpy(), _NOTICED)
            cases = flips(memory, np.arange(len(drawn)), drawn, len(drawn))
            seen = noticed(bench, cases)
            if seen is not None:
                measurements += [
                    rate("faults detected", int(seen.detected.sum()), len(drawn)),
                    rate("faults repaired", int(seen.repaired.sum()), len(drawn)),
                ]
        strata = means["mean corruption"].strata
        if self.estimator == "exhaustive":
            strata = sampled.exact(harm.corruption)
        return Observed(
            measurements=tuple(measurements),
            tables={"vulnerability": _map(regions, strata)} if strata else {},
            spent={
                "faults": harm.tried,
                "bits that can be struck": population,
                "verifier forward": len(bench.evaluation),
            },
        )


class _Sampled:
    """Means over the faults of one bench."""

    def __init__(
        self, attack: RandomFaults, bench: Bench, regions: Sequence[Region], injector: Injector
    ) -> None:
        self._attack, self._regions, self._injector = attack, regions, injector
        self._memory = bench.defended.memory
        self._rng = bench.rng
        self._scores: np.ndarray | None = None

    def mean(self, values: Values, bounds: tuple[float, float]) -> Estimate:
        """Return the mean of some values over all faults."""
        attack = self._attack
        if attack.estimator == "exhaustive":
            return exhaustive(bits_of(self._memory, self._regions), values)
        sample = self._sample(values, bounds)
        budget = max(attack.budget, min(sample.least, sample.population))
        return until(sample, tolerance=attack.tolerance, budget=budget, relative=True).estimate

    def exact(self, values: Values) -> tuple[StratumFigures, ...]:
        """Return the figures of each stratum, all of its faults tried."""
        return tuple(
            StratumFigures(
                name=s.name,
                population=s.population,
                tried=s.population,
                mean=float(values(s.at(np.arange(s.population))).mean()),
            )
            for s in strata_of(self._memory, self._regions)
        )

    def _sample(self, values: Values, bounds: tuple[float, float]) -> Sample:
        # the same faults for each mean as far as possible: none is tried twice
        rng = self._rng.child("faults").numpy()
        if self._attack.estimator == "stratified":
            return StratifiedSample(
                strata_of(self._memory, self._regions), values, rng, bounds=bounds
            )
        faults = bits_of(self._memory, self._regions)
        if self._attack.estimator == "simple":
            return SimpleSample(faults, values, rng, bounds=bounds)
        if self._scores is None:
            self._scores = bit_scores(self._injector.some(), self._regions)
        return ImportanceSample(faults, values, self._scores, rng, bounds=bounds)


def _map(regions: Sequence[Region], strata: Sequence[StratumFigures]) -> dict[str, list[Any]]:
    """Return the figures of the strata as a table: a row a tensor and place in the word."""
    # in the order of `strata_of`
    places = [(r, bit) for r in regions for bit in range(r.word.bits)]
    rows = [(r.name, r.layer, r.role, bit, s) for (r, bit), s in zip(places, strata, strict=True)]
    return {
        "tensor": [name for name, *_ in rows],
        "layer": [layer for _, layer, *_ in rows],
        "role": [role for _, _, role, *_ in rows],
        "bit": [bit for *_, bit, _ in rows],
        "population": [s.population for *_, s in rows],
        "tried": [s.tried for *_, s in rows],
        "corruption": [s.mean for *_, s in rows],
    }
