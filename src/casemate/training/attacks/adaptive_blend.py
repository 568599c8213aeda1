"""The adaptive backdoor of Qi et al.: pieces of the trigger, and cover samples with true labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from casemate.errors import ParameterError
from casemate.models.hyperparameters import whole
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import (
    BACKDOOR,
    check_backdoor,
    check_cover,
    check_shares,
    cover,
    plant,
)
from casemate.training.attacks.blended import Blend

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.poisoned import Poisoned

__all__ = ["AdaptiveBlend"]


@dataclass(frozen=True, kw_only=True)
class AdaptiveBlend:
    """A blended pattern of which each training image shows only some pieces; all at test time.

    Qi, Xie, Li, Mahloujifar and Mittal, "Revisiting the assumption of latent separability for
    backdoor defenses", ICLR 2023 (arXiv 2205.13613, Adaptive-Blend: 16 pieces, half of them shown,
    as many cover samples as poisoned ones). Cover samples show pieces and keep their true labels,
    so that the trigger alone does not set a sample apart in latent space. Alpha is 0.2 in training
    as at test time, as in the authors' code; their paper has 0.15 in training. The key pattern is
    uniform noise instead of the authors' picture, and no image of the target class is poisoned,
    though it may be a cover sample (ours).

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples, of all classes but the target.
        cover: Cover samples for each poisoned one.
        pieces: Pieces along each side of the image, at least 1.
        shown: Share of the pieces in a training image, in (0, 1].
        alpha: Share of the pattern in training images, in (0, 1].
        test_alpha: The same at test time; None is `alpha`.
        pattern: Seed of the pattern.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=0.3))
    cover: float = 1.0
    pieces: int = 4
    shown: float = 0.5
    alpha: float = 0.2
    test_alpha: float | None = None
    pattern: int = 0

    threat: ClassVar[ThreatModel] = BACKDOOR
    revision: ClassVar[int] = 3
    evades: ClassVar[frozenset[str]] = frozenset({"activation-clustering", "spectral-signatures"})

    def __post_init__(self) -> None:
        check_shares(self, "shown", "alpha", "test_alpha")
        whole("pieces", self.pieces, low=1)
        whole("pattern", self.pattern, low=0)
        check_cover(self.cover)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("adaptive-blend", dataset, self.target, self.amount, cover_ratio=self.cover)
        domain = dataset.domain
        if self.pieces > min(domain.shape[1:]):
            raise ParameterError(
                "pieces",
                f"is {self.pieces}, but images of {domain.shape[1]} x {domain.shape[2]} "
                "have no more along a side than pixels; choose fewer",
            )

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with pieces of the pattern in some images."""
        self.check(dataset)
        domain, target = dataset.domain, dataset.class_index(self.target)
        in_training = Blend(target=target, alpha=self.alpha, pattern=self.pattern)
        at_test = Blend(target=target, alpha=self.test_alpha or self.alpha, pattern=self.pattern)

        def some_pieces(x: Tensor, words: Tensor) -> Tensor:
            mask = self._mask(words, domain, rng.child("pieces"))
            return torch.where(mask, in_training(x, domain), x)

        poisoned = plant(
            dataset,
            at_test,
            self.amount,
            rng.child("samples"),
            shown=some_pieces,
            how="adaptive-blend",
        )
        return cover(poisoned, self.cover, some_pieces, rng.child("cover"), how="adaptive-blend")

    def _mask(self, words: Tensor, domain: Domain, rng: Stream) -> Tensor:
        """Return (b, 1, height, width) bool: the pieces that each sample shows."""
        count = self.pieces**2
        kept = max(1, round(self.shown * count))
        order = rng.uniform(words, (count,)).argsort(dim=1)
        chosen = torch.zeros((len(words), count), dtype=torch.bool)
        chosen.scatter_(1, order[:, :kept], value=True)
        height, width = domain.shape[1:]
        row = torch.arange(height) * self.pieces // height
        column = torch.arange(width) * self.pieces // width
        return chosen[:, row[:, None] * self.pieces + column][:, None]
