"""BFA: flips that wreck a model's accuracy (Rakin, He and Fan, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from casemate.hardware.attacks.objectives import CrossEntropy, SigmoidMargin
from casemate.hardware.attacks.progressive import ProgressiveSearch
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.parameters import check_choice, check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.objectives import Objective
    from casemate.hardware.attacks.outcome import Outcome
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.implementation import Implementation
    from casemate.random import Stream

__all__ = ["BFA"]

_GUESSING = 1.1  # times as good as guessing


@dataclass(frozen=True, kw_only=True)
class BFA:
    """Flips of weight bits until a model is as good as guessing.

    Rakin, He and Fan, "Bit-flip attack: crushing neural network with progressive bit search", ICCV
    2019 (arXiv 1903.12269). It needs the weights and a few inputs, no training data. The labels are
    the deployed model's own predictions, as in the authors' code, so that none need be known.

    Ours: what `ProgressiveSearch` says; and the objective "sigmoid margin" (`SigmoidMargin`), which
    took LeNet on MNIST down with less than half as many flips. The goal is judged on the evaluation
    data after each flip, as in the authors' code; they choose no flip.

    Attributes:
        objective: What flips make large: "cross-entropy" in the paper, or "sigmoid margin".
        temperature: Of the sigmoid margin, in median margins of the deployed model's scores on the
            attacker's inputs; above 0.
        budget: Flips at most; 100 in the authors' script for CIFAR-10.
        level: Accuracy on the evaluation data, in [0, 1], at or below which the goal is reached;
            if omitted 1.1 times that of guessing, which is 0.11 for ten classes, as in the authors'
            code.
        batch: How many inputs the attacker uses; 128 in the authors' code.
        labels: Of these: the "model"'s own predictions, or the "true" ones.
        candidates: How many bits of each layer are tried in an iteration.
        flip_back: Whether a bit may flip twice.
        layers: Names of the layers whose weights may flip; all if omitted.
    """

    objective: Literal["cross-entropy", "sigmoid margin"] = "cross-entropy"
    temperature: float = 0.25
    budget: int = 100
    level: float | None = None
    batch: int = 128
    labels: Literal["model", "true"] = "model"
    candidates: int = 1
    flip_back: bool = False
    layers: tuple[str, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.GRADIENTS,
        knowledge=Knowledge.WHITE_BOX,
        budget="number of bits flipped in memory",
    )
    revision: ClassVar[int] = 1
    has_goal: ClassVar[bool] = True
    aim: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, ("cross-entropy", "sigmoid margin"))
        check_number("temperature", self.temperature, low=1e-6)
        check_whole("budget", self.budget)
        _ = self._among  # refuses what is no list of names
        if self.level is not None:
            check_number("level", self.level, low=0.0, high=1.0)
        check_whole("batch", self.batch)
        check_whole("candidates", self.candidates)
        check_choice("labels", self.labels, ("model", "true"))

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer does not exist or has no weights."""
        self._among.regions(deployed.memory)

    def wants(self, reading: Reading) -> bool:
        """Return whether a model that fares so is as good as guessing."""
        level = _GUESSING / reading.classes if self.level is None else self.level
        return reading.accuracy <= level

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model at most.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        return self.budget * (images + (layers * self.candidates + 2) * self.batch)

    def run(
        self,
        deployed: Implementation,
        pool: Samples,
        evaluation: Samples,
        rng: Stream,
        *,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return the flips that wreck the model.

        Args:
            deployed: Left as it is.
            pool: What the attacker draws inputs from; none of it should be evaluation data.
            evaluation: What the model is read on.
            rng: Chooses the inputs.
            constraint: Which bits can flip; all if omitted.

        Raises:
            UsageError: If a layer does not exist or has no weights.
        """
        regions = self._among.regions(deployed.memory)
        batch = pool.drawn(self.batch, rng)
        scores = deployed.scores(batch.x)
        if self.labels == "model":
            batch = Samples(x=batch.x, labels=scores.argmax(1))
        objective: Objective = CrossEntropy()
        if self.objective == "sigmoid margin":
            objective = SigmoidMargin.of(scores, self.temperature)
        search = ProgressiveSearch(
            objective=objective,
            budget=self.budget,
            candidates=self.candidates,
            flip_back=self.flip_back,
        )
        return search.run(
            deployed,
            batch,
            regions,
            evaluation=evaluation,
            goal=self.wants,
            constraint=constraint,
        )

    @property
    def _among(self) -> Everywhere:
        return Everywhere(layers=self.layers)
