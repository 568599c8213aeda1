"""Random flips: what as many bits do that nobody chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.attacks.changing_words import ChangingWords
from casemate.hardware.attacks.outcome import Ended, Flip, Outcome, Spent
from casemate.hardware.attacks.readings import Aim, Judge
from casemate.hardware.parameters import check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.implementation import Implementation
    from casemate.random import Stream

__all__ = ["RandomFlips"]


@dataclass(frozen=True, kw_only=True)
class RandomFlips:
    """Flips of bits drawn at random, uniformly over bits: the control of searched flips.

    Ours: no bit flips twice. BFA's authors draw a layer first, then a weight in it and a bit of
    that, so that small layers are struck more often; here each bit of the weights is as likely as
    any other.

    It is the control of targeted attacks as well where it is told their target: what share of their
    inputs gets it by chance.

    Attributes:
        budget: How many flips.
        level: Accuracy on the evaluation data, in [0, 1], at or below which the goal is reached and
            no more bits flip; None flips them all.
        layers: Names of the layers whose weights may flip; all if omitted.
        target: Label that counts as the attack's success; any wrong one if omitted.
        source: Label of the inputs that are to get the target; all but its own if omitted.
    """

    budget: int = 100
    level: float | None = None
    layers: tuple[str, ...] | None = None
    target: int | None = None
    source: int | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="number of bits flipped in memory",
    )
    revision: ClassVar[int] = 1
    control: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("budget", self.budget)
        _ = self._among  # refuses what is no list of names
        if self.level is not None:
            check_number("level", self.level, low=0.0, high=1.0)
        if self.source is not None and self.target is None:
            raise ParameterError(
                "source", f"is {self.source}, but there is no target; give one, or no source"
            )
        _ = self.aim  # refuses what are no two classes

    @property
    def aim(self) -> Aim | None:
        """Which inputs count as led to which label; None for any wrong one."""
        return None if self.target is None else Aim(target=self.target, source=self.source)

    @property
    def has_goal(self) -> bool:
        """Whether there is a level that ends it."""
        return self.level is not None

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer or class does not exist, or bits are fewer than flips."""
        if self.aim is not None:
            self.aim.check(deployed.graph.nodes[-1].shape[0])
        bits = self._among.population(deployed.memory)
        if bits < self.budget:
            raise ParameterError(
                "budget",
                f"is {self.budget}, but the weights have {bits} bits; ask for fewer",
            )

    def wants(self, reading: Reading) -> bool:
        """Return whether a model that fares so is low enough."""
        return self.level is not None and reading.accuracy <= self.level

    def forwards(self, layers: int, images: int) -> int:
        """Return how many inputs run through the model at most.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        del layers
        return (self.budget + 1) * images

    def run(
        self,
        deployed: Implementation,
        pool: Samples,
        evaluation: Samples,
        rng: Stream,
        *,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return random flips and what they do.

        Args:
            deployed: Left as it is.
            pool: Not looked at.
            evaluation: What the model is read on.
            rng: Chooses the bits.
            constraint: Which bits can flip; fewer flips than the budget if no more fit together.

        Raises:
            UsageError: If a layer does not exist, or there are fewer bits than flips.
        """
        del pool
        if self.aim is not None:
            self.aim.check_inputs(evaluation.labels)
        memory, graph = deployed.memory, deployed.graph
        if constraint is None:
            numbers = self._among.draw(memory, rng.numpy(), self.budget, replace=False)
        else:
            numbers = constraint.drawn(rng.numpy(), self.budget)
        regions = [memory.regions[i] for i in np.unique(memory.locate(numbers)[0]).tolist()]
        held = ChangingWords(memory, regions, deployed.reading)
        first = min((graph.readers[r.name][0] for r in regions), default=0)
        judge = Judge(graph, held.values, evaluation, self.aim, first=first)
        flips: list[Flip] = []
        ended: Ended = "budget" if len(numbers) == self.budget else "stuck"
        if self.wants(judge.before):
            ended = "goal"
        for number in numbers.tolist():
            if ended == "goal":
                break
            held.flip(number)
            reading = judge.read(held.values)
            flips.append(
                Flip(
                    fault=memory.fault(number),
                    number=number,
                    loss=None,
                    batch_accuracy=None,
                    reading=reading,
                )
            )
            if self.wants(reading):
                ended = "goal"
        return Outcome(
            before=judge.before,
            flips=tuple(flips),
            ended=ended,
            spent=Spent(forward=0, backward=0),
        )

    @property
    def _among(self) -> Everywhere:
        return Everywhere(layers=self.layers)
