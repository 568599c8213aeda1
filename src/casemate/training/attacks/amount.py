"""How many samples an attacker poisons: a number or a share, of the set or of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.errors import ParameterError
from casemate.models.hyperparameters import number, whole

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
            if self.count is None:
                raise ParameterError(
                    "amount", "says neither count nor percent; give one of them, as percent: 1"
                )
            raise ParameterError(
                "amount",
                f"says both count ({self.count}) and percent ({self.percent:g}), of which one can "
                "hold; remove count to poison that share, or percent to poison that many",
            )
        if self.count is not None:
            whole("amount.count", self.count, low=1)
        if self.percent is not None:
            number("amount.percent", self.percent, low=0, high=100, open_low=True)

    def choose(self, dataset: Dataset, allowed: Tensor, rng: Stream) -> Tensor:
        """Return positions of the samples to poison, drawn uniformly without replacement.

        Args:
            dataset: The training set.
            allowed: (n,) bool, samples that the attack may touch.
            rng: Of the draw.

        Returns:
            (m,) int64, sorted.

        Raises:
            ParameterError: If there are not as many.
        """
        shares = self.shares(dataset, allowed)
        order = torch.randperm(len(dataset), generator=rng.torch())
        order = order[allowed[order]]
        if not self.per_class:
            return order[: shares[None]].sort().values
        labels = dataset.targets[order]
        parts = [order[labels == label][:count] for label, count in shares.items()]
        return torch.cat(parts).sort().values if parts else order[:0]

    def shares(self, dataset: Dataset, allowed: Tensor) -> dict[int | None, int]:
        """Return how many samples to poison of each class, or under None of all.

        Args:
            dataset: The training set.
            allowed: (n,) bool, samples that the attack may touch.

        Raises:
            ParameterError: If there are not as many.
        """
        if not self.per_class:
            found = self._number(len(dataset), int(allowed.sum()), dataset.name, "")
            return {None: found}
        sizes = torch.bincount(dataset.targets, minlength=len(dataset.classes)).tolist()
        free = torch.bincount(dataset.targets[allowed], minlength=len(sizes)).tolist()
        return {
            label: self._number(
                sizes[label], free[label], dataset.name, f' of class "{dataset.classes[label]}"'
            )
            for label in range(len(sizes))
            if free[label]
        }

    def halved(self, dataset: Dataset, allowed: Tensor) -> Amount | None:
        """Return half as much, or None where there is nothing to halve.

        Args:
            dataset: As for `shares`.
            allowed: As for `shares`.
        """
        shares = list(self.shares(dataset, allowed).values())
        if max(shares, default=0) <= 1:
            return None
        if not self.per_class:
            return Amount(count=shares[0] // 2)
        if self.count is not None:
            return Amount(count=self.count // 2, per_class=True)
        assert self.percent is not None  # noqa: S101 - one of the two is given
        return Amount(percent=self.percent / 2, per_class=True)

    def _number(self, size: int, free: int, name: str, where: str) -> int:
        wanted = self.count
        if wanted is None:
            assert self.percent is not None  # noqa: S101 - one of the two is given
            wanted = max(1, round(self.percent / 100 * size))
        if wanted > free:
            remedy = f"ask for at most {free}" if free else "choose another class or other data"
            raise ParameterError(
                "amount.percent" if self.count is None else "amount.count",
                f"asks for {wanted} samples{where}, but {name} has {free} that this attack may "
                f"touch; {remedy}",
            )
        return wanted
