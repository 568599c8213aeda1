"""`Poisoned`: a training set after an attack, with the truth about what was touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel

__all__ = ["PoisonAttack", "Poisoned", "Trigger"]


class Trigger(Protocol):
    """What an attacker shows to a backdoored model, and the class that it should answer."""

    @property
    def target(self) -> int:
        """Label that the attacker wants for inputs with the trigger."""

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return (b, *shape) inputs with the trigger, in the domain; `x` stays as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Poisoned:
    """A training set after an attack.

    Attributes:
        clean: As it was.
        dataset: As it is now: a view of the same inputs with a patch.
        touched: (m,) int64 positions of samples whose input or label the attacker changed, sorted.
        trigger: For test time, if the attack plants a backdoor.
    """

    clean: Dataset
    dataset: Dataset
    touched: Tensor
    trigger: Trigger | None = None

    @property
    def relabeled(self) -> Tensor:
        """(l,) int64 positions whose label is another now, sorted."""
        before, after = self.clean.targets[self.touched], self.dataset.targets[self.touched]
        return self.touched[before != after]


class PoisonAttack(Protocol):
    """An attack on training data: a frozen dataclass whose fields are its parameters.

    Attributes:
        threat: The threat model; its budget is the number of samples touched.
        revision: Raised when the same parameters come to mean something else.
    """

    threat: ClassVar[ThreatModel]
    revision: ClassVar[int]

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set poisoned.

        Args:
            dataset: The training set; left as it is.
            rng: Of the attack's random choices.

        Raises:
            UsageError: If a parameter does not fit the data.
        """
