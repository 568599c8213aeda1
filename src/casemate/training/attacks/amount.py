"""How many samples an attacker poisons: a number or a share, of the set or of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream

__all__ = ["Amount"]


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A poison budget; exactly one of `count` and `percent` is given.

    Attributes:
        count: Samples.
        percent: Percent, in (0, 100], of the training set, rounded to whole samples, at least one.
        per_class: Whether the number or share is that of each class instead of the set; classes
            that the attack does not touch are left out.
    """

    count: int | None = None
    percent: float | None = None
    per_class: bool = False

    def __post_init__(self) -> None:
        if (self.count is None) == (self.percent is None):
            raise UsageError("amount: give either count or percent")
        if self.count is not None and self.count < 1:
            raise UsageError(f"amount.count is {self.count}, but it must be at least 1")
        if self.percent is not None and not 0 < self.percent <= 100:  # noqa: PLR2004 - a share
            raise UsageError(
                f"amount.percent is {self.percent:g}, but it must lie above 0 and up to 100"
            )

    def choose(self, dataset: Dataset, allowed: Tensor, rng: Stream) -> Tensor:
        """Return positions of the samples to poison, drawn uniformly without replacement.

        Args:
            dataset: The training set.
            allowed: (n,) bool, samples that the attack may touch.
            rng: Of the draw.

        Returns:
            (m,) int64, sorted.

        Raises:
            UsageError: If there are not as many.
        """
        order = torch.randperm(len(dataset), generator=rng.torch())
        if not self.per_class:
            return self._first(order, allowed, len(dataset), dataset.name, "")
        labels = dataset.targets
        parts = []
        for label in torch.bincount(labels[allowed]).nonzero().flatten().tolist():
            mine = labels == label
            where = f' of class "{dataset.classes[label]}"'
            parts.append(self._first(order, allowed & mine, int(mine.sum()), dataset.name, where))
        return torch.cat(parts).sort().values if parts else order[:0]

    def _first(self, order: Tensor, allowed: Tensor, size: int, name: str, where: str) -> Tensor:
        candidates = order[allowed[order]]
        wanted = self.count
        if wanted is None:
            assert self.percent is not None  # noqa: S101 - one of the two is given
            wanted = max(1, round(self.percent / 100 * size))
        if wanted > len(candidates):
            raise UsageError(
                f"amount asks for {wanted} samples{where}, but {name} has {len(candidates)} that "
                "this attack may touch; ask for fewer"
            )
        return candidates[:wanted].sort().values
