"""Label flips: other labels, the same inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from casemate.errors import ParameterError, UsageError
from casemate.models.hyperparameters import choice
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.targeted import check_classes
from casemate.training.poisoned import Aim, Poisoned

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream

__all__ = ["LabelFlips"]


@dataclass(frozen=True, kw_only=True)
class LabelFlips:
    """Some samples get another label; their inputs stay.

    "uniform" draws the new label uniformly from the other classes, "pair" takes the next class
    (the last one's next is the first): symmetry and pair flipping of Han et al., "Co-teaching:
    robust training of deep neural networks with extremely noisy labels", NeurIPS 2018 (arXiv
    1804.06872), except that here the number of flips is fixed. "class" turns samples of one class
    into another.

    Attributes:
        kind: "uniform", "pair" or "class".
        amount: How many samples; with "class" and `per_class`, of the class `source`.
        source: Class whose samples are relabeled, by name or label; only with "class".
        target: Label that they get; only with "class".
    """

    kind: Literal["uniform", "pair", "class"] = "uniform"
    amount: Amount = field(default_factory=lambda: Amount(percent=10.0))
    source: str | int | None = None
    target: str | int | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="data-poisoning",
        stage=Stage.TRAINING,
        goals=(Goal.AVAILABILITY, Goal.INTEGRITY_TARGETED),
        access=Access.NONE,
        knowledge=Knowledge.BLACK_BOX,
        budget="number of training samples relabeled",
    )
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("uniform", "pair", "class"))
        given = (self.source is not None, self.target is not None)
        if given != ((self.kind == "class"),) * 2:
            key = "source" if given[0] != (self.kind == "class") else "target"
            raise ParameterError(
                key,
                'is missing, but label-flips of the kind "class" need source and target; name a '
                "class"
                if self.kind == "class"
                else f'is for the kind "class", and label-flips of the kind "{self.kind}" take no '
                "source or target; remove it, or choose that kind",
            )

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        if len(dataset.classes) < 2:  # noqa: PLR2004 - a label and another one
            raise UsageError(
                f"label-flips needs at least two classes, but {dataset.name} has "
                f"{len(dataset.classes)}; choose other data, or an attack that keeps labels"
            )
        self.amount.shares(dataset, self._allowed(dataset, self._aim(dataset)))

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with some labels flipped."""
        self.check(dataset)
        labels, classes = dataset.targets, len(dataset.classes)
        aim = self._aim(dataset)
        chosen = self.amount.choose(dataset, self._allowed(dataset, aim), rng.child("samples"))
        before = labels[chosen]
        if aim is not None:
            after = torch.full_like(before, aim.target)
        elif self.kind == "pair":
            after = (before + 1) % classes
        else:
            generator = rng.child("labels").torch()
            step = torch.randint(1, classes, (len(chosen),), generator=generator)
            after = (before + step) % classes
        poisoned = dataset.replaced(chosen, labels=after, how="label-flips")
        return Poisoned.of(dataset, poisoned, chosen, aim=aim)

    def _aim(self, dataset: Dataset) -> Aim | None:
        if self.source is None or self.target is None:
            return None
        target, source = check_classes(dataset, self.target, self.source)
        return Aim(source=source, target=target)

    def _allowed(self, dataset: Dataset, aim: Aim | None) -> Tensor:
        """Return (n,) bool, samples that may be relabeled."""
        if aim is None:
            return torch.ones(len(dataset), dtype=torch.bool)
        assert aim.source is not None  # noqa: S101 - flips have a source
        return dataset.targets.eq(aim.source)
