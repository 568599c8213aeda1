"""What an attack on a deployed model did: the flips in order, and the model after each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from casemate.hardware.cases import changed_words
from casemate.hardware.cases import flips as cases_of

if TYPE_CHECKING:
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.attacks.trigger import Trigger
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Fault

__all__ = ["Ended", "Flip", "Outcome", "Spent", "flipped"]

Ended = Literal["goal", "budget", "stuck"]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One flip, and the model after it and all before it.

    Attributes:
        fault: Which bit.
        number: The same, by its number in the memory.
        loss: The attack's objective on its own inputs; None if it has none.
        batch_accuracy: Share of these whose prediction is their label, in [0, 1].
        reading: On the evaluation data.
    """

    fault: Fault
    number: int
    loss: float | None
    batch_accuracy: float | None
    reading: Reading


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the attack computed with the model, evaluation apart.

    Attributes:
        forward: Inputs that ran through it; one that ran from some layer on counts in full.
        backward: Inputs whose gradient was taken.
    """

    forward: int
    backward: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attack did.

    Attributes:
        before: The model without flips on the evaluation data.
        flips: In their order.
        ended: Why there are no more: the "goal" is reached, the "budget" is spent, or it is
            "stuck" since nothing that it may do helps.
        spent: What that took.
        trigger: What leads inputs to the target, if the attack makes one.
    """

    before: Reading
    flips: tuple[Flip, ...]
    ended: Ended
    spent: Spent
    trigger: Trigger | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.ended == "goal"

    @property
    def after(self) -> Reading:
        """The model with all flips on the evaluation data."""
        return self.flips[-1].reading if self.flips else self.before

    @property
    def numbers(self) -> np.ndarray:
        """(distance,) int64, ascending: the bits that differ in the end."""
        made = np.array([f.number for f in self.flips], dtype=np.int64)
        bits, times = np.unique(made, return_counts=True)
        differ: np.ndarray = bits[times % 2 == 1]
        return differ

    @property
    def distance(self) -> int:
        """How many bits differ in the end (Hamming distance); a bit flipped back does not."""
        return len(self.numbers)


def flipped(deployed: Implementation, numbers: np.ndarray) -> Implementation:
    """Return the deployed model with bits inverted.

    Args:
        deployed: Left as it is.
        numbers: (n,) of the bits; one that is named twice is as it was.
    """
    memory = deployed.memory
    numbers = np.asarray(numbers, dtype=np.int64)
    made = cases_of(memory, np.zeros(len(numbers), dtype=np.int64), numbers, 1)
    return replace(deployed, memory=memory.with_words(changed_words(memory, made)))
