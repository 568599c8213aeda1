"""Random upsets: what one of them does to what is computed, wherever it falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from casemate.errors import ParameterError
from casemate.hardware.attacks.single_faults import DETECTED, NOTICED, observed
from casemate.hardware.attacks.vulnerability import Place
from casemate.hardware.defenses.noticing import noticed_upsets
from casemate.hardware.estimation.faults import strata_of_upsets, upsets_of
from casemate.hardware.estimation.means import CORRUPTION, CRITICAL, DROP, Population
from casemate.hardware.injector import Injector
from casemate.hardware.parameters import check_choice, check_names, check_number, check_whole
from casemate.hardware.upset_models import UpsetKind, upsets_at
from casemate.hardware.upsets import Kind, Sites
from casemate.stats import rate
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from casemate.hardware.attacks.attack import Observed
    from casemate.hardware.bench import Bench
    from casemate.hardware.effects import Effects
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.upsets import Upsets
    from casemate.stats import Measurement

__all__ = ["RandomUpsets"]

Estimator = Literal["stratified", "simple"]

_FASTER = 7  # times as fast as a pass a fault, at least, in the measurements of docs/benchmarks.md


@dataclass(frozen=True, kw_only=True)
class RandomUpsets:
    """Single upsets of what is computed, at each bit of some outputs as likely as at any other.

    Of the network's input, of accumulators (the sums of convolutions and linear layers) and of all
    other activations, as particles that strike buffers and arithmetic do (Li et al., "Understanding
    error propagation in deep learning neural network (DNN) accelerators and applications", SC 2017,
    who have faults in latches and buffers for one inference; Mahmoud et al., "PyTorchFI", DSN-W
    2020, whose neuron faults these are). The means of what one does are those of `RandomFaults`.

    A transient upset strikes one inference: the population are all pairs of a bit and an image,
    corruption is the share of upsets that change the prediction of the inference that they strike,
    and critical are those that turn a right answer wrong. A permanent one strikes all inferences in
    the same place, as a defective cell of a buffer that is used for one output alone.

    Attributes:
        where: Which outputs: "input", "sum", "activation".
        kind: What happens there: "flip" (the bit is inverted), "stuck at 0" or "stuck at 1" (it
            reads that; where it would anyhow, the upset does nothing and counts), or "random value"
            (the bit's word is replaced by a random one).
        permanent: Whether an upset strikes all inferences, not one.
        estimator: "stratified" (by output and place in the word: Neyman's allocation after a pilot)
            or "simple".
        tolerance: Longer half of each interval at which sampling ends, as a share of the mean.
        budget: Upsets at most for each of the three means, or as many as an estimate takes
            at least: four of each stratum.
        critical: An upset is critical if it costs more accuracy than that of the inferences that it
            strikes, in [0, 1).
        layers: Names of the layers whose outputs are struck; all outputs if omitted.
    """

    where: tuple[Kind, ...] = ("input", "sum", "activation")
    kind: UpsetKind = "flip"
    permanent: bool = False
    estimator: Estimator = "stratified"
    tolerance: float = 0.1
    budget: int = 8000
    critical: float = 0.05
    layers: tuple[str, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="one word of what is computed",
    )
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = (CORRUPTION, DROP, CRITICAL)
    noticed: ClassVar[tuple[str, ...]] = (DETECTED,)

    def __post_init__(self) -> None:
        check_names("where", self.where, get_args(Kind))
        check_names("layers", self.layers)
        check_choice("kind", self.kind, get_args(UpsetKind))
        if not isinstance(self.permanent, bool):
            raise ParameterError("permanent", f"must be true or false, got {self.permanent!r}")
        check_choice("estimator", self.estimator, get_args(Estimator))
        check_number("tolerance", self.tolerance, low=1e-6)
        check_whole("budget", self.budget)
        check_number("critical", self.critical, low=0.0, high=1.0)
        if self.critical == 1.0:
            raise ParameterError("critical", "is 1, which nothing exceeds; choose less")

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist, or there is no such output."""
        self._sites(deployed)

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model, for estimates of time.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        del layers
        upsets = 3 * self.budget
        return images + (upsets * images // _FASTER if self.permanent else upsets)

    def observe(
        self, bench: Bench, *, progress: Callable[[int, int], None] | None = None
    ) -> Observed:
        """Return the means over all upsets, and the map.

        Args:
            bench: The deployed model and what stands beside it.
            progress: Called with upsets tried and upsets in all, at most.
        """
        sites = self._sites(bench.defended)
        images = 1 if self.permanent else len(bench.evaluation)
        population = Population(
            faults=upsets_of(sites, images), strata=strata_of_upsets(sites, images)
        )
        injector = Injector(bench.defended, bench.evaluation.x, memory=bench.memory_limit)
        drawn = bench.rng.child("upset").numpy()

        def upsets(numbers: np.ndarray) -> Upsets:
            image = None if self.permanent else numbers % images
            return upsets_at(sites, self.kind, numbers // images, image, drawn)

        def effects(numbers: np.ndarray) -> Effects:
            return injector.upset(upsets(numbers))

        def seen() -> list[Measurement]:
            rng = bench.rng.child("noticed").numpy()
            struck = rng.integers(0, population.faults.population, NOTICED)
            found = noticed_upsets(bench, upsets(struck))
            return [] if found is None else [rate(DETECTED, int(found.sum()), len(struck))]

        return observed(
            self,
            bench,
            population,
            effects=effects,
            injector=injector,
            noticed=seen,
            # in the order of `strata_of_upsets`
            places=[
                Place(tensor=o.name, layer=o.name, role=o.kind, bit=bit)
                for o in sites.outputs
                for bit in range(o.bits)
            ],
            bits=sites.bits,
            inferences=None if self.permanent else 1,
            progress=progress,
        )

    def _sites(self, deployed: Implementation) -> Sites:
        return Sites(deployed.graph, self.where, self.layers)
