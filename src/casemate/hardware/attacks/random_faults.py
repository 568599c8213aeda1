"""Random faults: what one of them does to memory, wherever it falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from casemate.errors import ParameterError
from casemate.hardware.attacks.single_faults import DETECTED, NOTICED, REPAIRED, observed
from casemate.hardware.attacks.vulnerability import Place
from casemate.hardware.defenses.noticing import noticed
from casemate.hardware.estimation.faults import bits_of, strata_of
from casemate.hardware.estimation.means import CORRUPTION, CRITICAL, DROP, Estimator, Population
from casemate.hardware.fault_models import BitFlips, Burst, RandomValue, StuckAt
from casemate.hardware.injector import Injector
from casemate.hardware.parameters import check_choice, check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.stats import rate
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from casemate.hardware.attacks.attack import Observed
    from casemate.hardware.bench import Bench
    from casemate.hardware.effects import Effects
    from casemate.hardware.fault_models import FaultAtBit
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Role
    from casemate.stats import Measurement

__all__ = ["RandomFaults"]

Kind = Literal["flip", "burst", "stuck at 0", "stuck at 1", "random value"]

_BURST = 4  # bits of a burst if not told
_LONGEST = 256  # bits of a burst; a row of memory has some ten thousand
_BITS_A_TENSOR = 1 << 17  # about those of LeNet, for estimates of time
_FASTER = 20  # times as fast as a pass a fault, at least, in the measurements of docs/benchmarks.md


@dataclass(frozen=True, kw_only=True)
class RandomFaults:
    """Single faults of memory, at each bit as likely as at any other, as by particles.

    The means over all of them of what one does: the share of predictions that it changes (silent
    data corruption), the accuracy that it costs, and the share of faults that are critical. They
    are estimated from some faults, or exact where all are tried (`casemate.hardware.estimation`
    names the sources). The strata, and the map in the report, are the bits of each tensor by their
    place in the word.

    Attributes:
        kind: What happens there: "flip" (the bit is inverted), "burst" (it and its neighbors at
            higher addresses of the same tensor are), "stuck at 0" or "stuck at 1" (it reads that;
            where it did before, the fault does nothing and counts), or "random value" (its word is
            replaced by a random one, drawn once for each bit).
        length: Bits of a burst, 2 to 256; 4 if omitted. For bursts only.
        estimator: "stratified" (Neyman's allocation after a pilot), "importance" (by the share of
            the margin that the bit's flip takes), "simple", or "exhaustive": all faults.
        tolerance: Longer half of each interval at which sampling ends, as a share of the mean.
        budget: Faults at most for each of the three means, or as many as an estimate takes
            at least: four of each stratum. "exhaustive" has none.
        critical: A fault is critical if it costs more accuracy than that, in [0, 1].
        roles: Which words: "weight", "bias", "norm", "scale", "zero point".
        layers: Names of the layers; all if omitted.
    """

    kind: Kind = "flip"
    length: int | None = None
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
        budget="one fault of memory",
    )
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = (CORRUPTION, DROP, CRITICAL)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(Kind))
        if self.length is not None:
            check_whole("length", self.length, low=2, high=_LONGEST)
            if self.kind != "burst":
                raise ParameterError(
                    "length",
                    f'is of bursts, but kind is "{self.kind}"; remove it or choose "burst"',
                )
        check_choice("estimator", self.estimator, get_args(Estimator))
        if self.estimator == "exhaustive" and self.kind == "random value":
            raise ParameterError(
                "estimator",
                'is "exhaustive", but a random value is another one each time; choose another '
                "estimator or kind",
            )
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

    def scored(self, deployed: Implementation) -> int:
        """Return how many bits are scored, which takes memory; 0 where none are."""
        if self.estimator != "importance":
            return 0
        return self.among.population(deployed.memory)

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
        population = Population(
            faults=bits_of(memory, regions),
            strata=strata_of(memory, regions),
            scores=lambda: injector.bit_scores(regions),
        )
        injector = Injector(bench.defended, bench.evaluation.x, memory=bench.memory_limit)
        model, drawn = self._model, bench.rng.child("fault").numpy()

        def effects(bits: np.ndarray) -> Effects:
            cases = model.at(memory, bits, drawn)
            if bench.guard is not None:
                cases = bench.guard.guarded(memory, cases).cases
            return injector.effects(cases)

        def seen() -> list[Measurement]:
            struck = self.among.draw(memory, bench.rng.child("noticed").numpy(), NOTICED)
            found = noticed(bench, model.at(memory, struck, drawn))
            if found is None:
                return []
            return [
                rate(DETECTED, int(found.detected.sum()), len(struck)),
                rate(REPAIRED, int(found.repaired.sum()), len(struck)),
            ]

        return observed(
            self,
            bench,
            population,
            effects=effects,
            injector=injector,
            noticed=seen,
            # in the order of `strata_of`
            places=[
                Place(tensor=r.name, layer=r.layer, role=r.role, bit=bit)
                for r in regions
                for bit in range(r.word.bits)
            ],
            bits=population.faults.population,
            progress=progress,
        )

    @property
    def _model(self) -> FaultAtBit:
        models: dict[Kind, FaultAtBit] = {
            "flip": BitFlips(),
            "burst": Burst(length=_BURST if self.length is None else self.length),
            "stuck at 0": StuckAt(value=0),
            "stuck at 1": StuckAt(value=1),
            "random value": RandomValue(),
        }
        return models[self.kind]
