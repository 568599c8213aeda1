"""Random flips: what as many bits do that nobody chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.hardware.attacks.changing_words import ChangingWords
from casemate.hardware.attacks.outcome import Ended, Flip, Outcome, Spent
from casemate.hardware.attacks.readings import Judge
from casemate.hardware.parameters import check_number, check_whole
from casemate.hardware.placement import Everywhere
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.placement import Placement
    from casemate.random import Stream

__all__ = ["RandomFlips"]


@dataclass(frozen=True, kw_only=True)
class RandomFlips:
    """Flips of bits drawn at random, uniformly over bits: the control of searched flips.

    Ours: no bit flips twice. BFA's authors draw a layer first, then a weight in it and a bit of
    that, so that small layers are struck more often; `Everywhere` is uniform over bits.

    Attributes:
        budget: How many flips.
        level: Accuracy on the evaluation data, in [0, 1], at or below which the goal is reached and
            no more bits flip; None flips them all.
        placement: Which bits can flip; those of all weights if omitted.
    """

    budget: int = 100
    level: float | None = None
    placement: Placement = field(default_factory=Everywhere)

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_UNTARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="number of bits flipped in memory",
    )
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("budget", self.budget)
        if self.level is not None:
            check_number("level", self.level, low=0.0, high=1.0)

    def run(self, deployed: Implementation, evaluation: Samples, rng: Stream) -> Outcome:
        """Return random flips and what they do.

        Args:
            deployed: Left as it is.
            evaluation: What the model is read on.
            rng: Chooses the bits.

        Raises:
            UsageError: If a layer does not exist, or there are fewer bits than flips.
        """
        memory, graph = deployed.memory, deployed.graph
        numbers = self.placement.draw(memory, rng.numpy(), self.budget, replace=False)
        regions = [memory.regions[i] for i in np.unique(memory.locate(numbers)[0]).tolist()]
        held = ChangingWords(memory, regions)
        first = min(graph.readers[r.name][0] for r in regions)
        judge = Judge(graph, held.values, evaluation, first=first)
        flips: list[Flip] = []
        ended: Ended = "goal" if self._is_low(judge.before) else "budget"
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
            if self._is_low(reading):
                ended = "goal"
        return Outcome(
            before=judge.before,
            flips=tuple(flips),
            ended=ended,
            spent=Spent(forward=0, backward=0),
        )

    def _is_low(self, reading: Reading) -> bool:
        return self.level is not None and reading.accuracy <= self.level
