"""What attacks on one known input share: their threat model, and which input they aim at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import ParameterError, UsageError
from casemate.registry import name_of
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel
from casemate.training.poisoned import Aim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.attacks.amount import Amount

__all__ = ["ONE_INPUT", "Aimed", "Wish", "check_classes"]

ONE_INPUT = ThreatModel(
    threat="data-poisoning",
    stage=Stage.TRAINING,
    goals=(Goal.INTEGRITY_TARGETED,),
    access=Access.NONE,
    knowledge=Knowledge.GRAY_BOX,
    budget="number of training samples changed and size of the change",
)

_BATCH = 512


def check_classes(
    dataset: Dataset, target: str | int, source: str | int | None
) -> tuple[int, int | None]:
    """Return the labels of target and source.

    Raises:
        UsageError: If the data has no such class, or both are the same.
    """
    label = dataset.class_index(target, "target")
    origin = None if source is None else dataset.class_index(source, "source")
    if origin == label:
        raise ParameterError(
            "target", f'is the class "{dataset.classes[label]}", and so is source; give two classes'
        )
    return label, origin


class Aimed:
    """What attacks on one known input share: some images of the target class, labels true.

    Attributes:
        target: Class that the known input is to get, by name or label; its images are poisoned.
        source: Class of that input, by name or label; None draws from all others.
        amount: How many samples of the target class.
    """

    target: str | int
    source: str | int | None
    amount: Amount

    threat: ClassVar[ThreatModel] = ONE_INPUT
    surrogate: ClassVar[bool] = True

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_classes(dataset, self.target, self.source)
        self.images(dataset)

    def check_known(self, dataset: Dataset, known: Dataset) -> None:
        """Raise `UsageError` if there is nothing to aim at among known inputs."""
        self.wish(dataset, known)

    def images(self, dataset: Dataset) -> int:
        """Return how many images are poisoned."""
        allowed = dataset.targets.eq(dataset.class_index(self.target))
        return sum(self.amount.shares(dataset, allowed).values())

    def wish(self, dataset: Dataset, known: Dataset | None) -> Wish:
        """Return what is wanted of the victim, before any model is trained."""
        name = name_of("attack", type(self))
        return Wish.of(name, dataset, known, target=self.target, source=self.source)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """One known input is to get a label that is not its own.

    Attributes:
        known: The inputs that the attacker knows, with their true labels.
        target: Label that the attacker wants.
        candidates: (c,) int64 positions of the known inputs that may be aimed at.
    """

    known: Dataset
    target: int
    candidates: Tensor

    @classmethod
    def of(
        cls,
        attack: str,
        dataset: Dataset,
        known: Dataset | None,
        *,
        target: str | int,
        source: str | int | None,
    ) -> Wish:
        """Return the wish that parameters describe, before any model is trained.

        Raises:
            UsageError: If there are no known inputs, none of the class, or none that fit the data.
        """
        if known is None:
            raise UsageError(
                f"{attack} aims at an input that the victim will meet, but the lab knows none; "
                "give known inputs"
            )
        if known.domain != dataset.domain or known.classes != dataset.classes:
            raise UsageError(
                f"known inputs ({known.name}) differ from {dataset.name} in domain or classes; "
                "give inputs of the same kind"
            )
        label, origin = check_classes(dataset, target, source)
        allowed = known.targets != label
        if origin is not None:
            allowed &= known.targets == origin
        candidates = allowed.nonzero().squeeze(1)
        if not len(candidates):
            whose = f"of another class than {label}" if source is None else f'of class "{source}"'
            raise UsageError(f"{attack} needs a known input {whose}, but there is none; give one")
        return cls(known=known, target=label, candidates=candidates)

    def aim(self, models: Sequence[TorchTarget], rng: Stream) -> Aim:
        """Return the aim at one candidate that all models read right, drawn uniformly.

        An input that is misread anyway would make any poison look good.

        Raises:
            UsageError: If they read none right.
        """
        order = self.candidates[torch.randperm(len(self.candidates), generator=rng.torch())]
        for part in torch.split(order, _BATCH):
            x, labels = self.known.batch(part), self.known.targets[part]
            right = torch.ones(len(part), dtype=torch.bool)
            for model in models:
                with torch.no_grad():
                    right &= model.labels(x.to(model.device)).cpu() == labels
            if right.any():
                first = part[right.nonzero()[0]]
                return Aim(target=self.target, source=int(self.known.targets[first]), inputs=first)
        raise UsageError(
            f"the attacker's models read none of {len(order)} known inputs right, so there is "
            "nothing to turn; train them longer or give other inputs"
        )
