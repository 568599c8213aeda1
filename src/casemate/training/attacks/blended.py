"""Blended injection: a faint picture over the whole image (Chen et al., arXiv 1712.05526)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.models.hyperparameters import whole
from casemate.random import stream
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import BACKDOOR, check_backdoor, check_shares, plant

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.poisoned import Poisoned

__all__ = ["Blend", "Blended"]


@dataclass(frozen=True, kw_only=True)
class Blend:
    """(1 - alpha) x + alpha k with a key pattern k of uniform random values, drawn once.

    Attributes:
        target: Label that the attacker wants.
        alpha: Share of the key pattern.
        pattern: Seed of the key pattern.
    """

    target: int
    alpha: float
    pattern: int = 0

    def key(self, domain: Domain) -> Tensor:
        """Return the (*shape) key pattern in the domain."""
        generator = stream(self.pattern, "blended/pattern").torch()
        values = torch.rand(domain.shape, generator=generator)
        return values.mul_(domain.width).add_(domain.low)

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the blended images."""
        return (1 - self.alpha) * x + self.alpha * self.key(domain).to(x)


@dataclass(frozen=True, kw_only=True)
class Blended:
    """A faint random pattern over the whole of some images, which get the target's label.

    Chen, Liu, Li, Lu and Song, "Targeted backdoor attacks on deep learning systems using data
    poisoning" (arXiv 1712.05526, blended injection with the random pattern). Alpha is that of most
    later work.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples, of all classes but the target.
        alpha: Share of the pattern in training images, in (0, 1].
        test_alpha: The same at test time; None is `alpha`. The paper's attacker may show more.
        pattern: Seed of the pattern.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=1.0))
    alpha: float = 0.2
    test_alpha: float | None = None
    pattern: int = 0

    threat: ClassVar[ThreatModel] = BACKDOOR
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_shares(self, "alpha", "test_alpha")
        whole("pattern", self.pattern, low=0)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("blended", dataset, self.target, self.amount)

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with the pattern in some images."""
        self.check(dataset)
        trigger = Blend(
            target=dataset.class_index(self.target), alpha=self.alpha, pattern=self.pattern
        )
        poisoned = plant(dataset, trigger, self.amount, rng.child("samples"), how="blended")
        if self.test_alpha is None:
            return poisoned
        return replace(poisoned, trigger=replace(trigger, alpha=self.test_alpha))
