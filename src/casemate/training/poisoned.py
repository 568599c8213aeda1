"""`Poisoned`: a training set after an attack, with the truth about what was touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.lab import Lab

__all__ = ["Aim", "PoisonAttack", "Poisoned", "SurrogateAttack", "Trigger"]

_BATCH = 1024


class Trigger(Protocol):
    """What an attacker shows to a backdoored model, and the class that it should answer."""

    @property
    def target(self) -> int:
        """Label that the attacker wants for inputs with the trigger."""

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return (b, *shape) inputs with the trigger, in the domain; `x` stays as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Aim:
    """What a targeted attack without a trigger wants of the victim.

    Attributes:
        target: Label that the attacker wants.
        source: Only inputs of this class are to get it; None for all classes.
        inputs: (k,) int64 positions of the inputs that are to get it, among those that the attacker
            knew the victim would meet (`Lab.known`); None for all.
    """

    target: int
    source: int | None = None
    inputs: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Poisoned:
    """A training set after an attack.

    Attributes:
        clean: As it was.
        dataset: As it is now: a view of the same inputs with a patch.
        touched: (m,) int64 positions of samples whose input or label the attacker changed, sorted.
        trigger: For test time, if the attack plants a backdoor.
        aim: What is wanted of inputs without a trigger, if the attack is targeted and plants none.
    """

    clean: Dataset
    dataset: Dataset
    touched: Tensor
    trigger: Trigger | None = None
    aim: Aim | None = None

    @classmethod
    def of(
        cls,
        clean: Dataset,
        dataset: Dataset,
        chosen: Tensor,
        *,
        trigger: Trigger | None = None,
        aim: Aim | None = None,
    ) -> Poisoned:
        """Return what an attack made of samples that it chose; those that stayed are not touched.

        A faint change may be lost in eight bits, and a warp of a blank image is that image.

        Args:
            clean: As for the class.
            dataset: As for the class.
            chosen: (m,) int64 positions of samples that the attack replaced, sorted.
            trigger: As for the class.
            aim: As for the class.
        """
        touched = chosen[_differ(clean, dataset, chosen)]
        return cls(clean=clean, dataset=dataset, touched=touched, trigger=trigger, aim=aim)

    @property
    def relabeled(self) -> Tensor:
        """(l,) int64 positions whose label is another now, sorted."""
        before, after = self.clean.targets[self.touched], self.dataset.targets[self.touched]
        return self.touched[before != after]


def _differ(before: Dataset, after: Dataset, positions: Tensor) -> Tensor:
    """Return (m,) bool, whether samples have another label or stored input now."""
    found = before.targets[positions] != after.targets[positions]
    same = (~found).nonzero().squeeze(1)  # only these have to be looked at
    for part in torch.split(same, _BATCH):
        places = positions[part]
        found[part] = (before.batch(places) != after.batch(places)).flatten(1).any(1)
    return found


class PoisonAttack(Protocol):
    """An attack on training data: a frozen dataclass whose fields are its parameters.

    Attributes:
        threat: The threat model; its budget is the number of samples touched.
        revision: Raised when the same parameters come to mean something else.
        evades: Names of the defenses and monitors that the attack's paper claims to get past, a
            frozenset; may be left out where it claims nothing.
    """

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data, as `poison` does, but fast."""

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set poisoned.

        Args:
            dataset: The training set; left as it is.
            rng: Of the attack's random choices.

        Raises:
            UsageError: If a parameter does not fit the data.
        """


class SurrogateAttack(Protocol):
    """An attack on training data by somebody who trains models of their own first.

    Attributes: as `PoisonAttack`, and
        surrogate: True, which is how it is told from the others.
        trainings: How many surrogates it trains; may be a property.

    One that aims at a known input may have `check_known(dataset, known)` besides, which raises
    `UsageError` where there is nothing to aim at.
    """

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]
    surrogate: ClassVar[bool]
    trainings: ClassVar[int]

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data, as `poison` does, but fast."""

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set poisoned.

        Args:
            dataset: The training set; left as it is.
            rng: Of the attack's random choices.
            lab: Trains the surrogates, and holds the inputs that the attacker knows.

        Raises:
            UsageError: If a parameter does not fit the data, or the attack needs known inputs and
                the lab has none.
        """
