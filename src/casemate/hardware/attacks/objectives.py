"""What an attacker on a deployed model makes large, of the scores of the inputs that it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.parameters import check_number

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AllToOne", "CrossEntropy", "Objective", "OneToOne", "SigmoidMargin", "StealthyOneToOne"]


class Objective(Protocol):
    """What flips make large."""

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return one number, differentiable by the scores.

        Args:
            scores: (n, classes).
            labels: (n,) int64.
        """


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy with the labels: the objective of BFA (arXiv 1903.12269, equation 3)."""

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the inputs."""
        return F.cross_entropy(scores, labels)


@dataclass(frozen=True, kw_only=True)
class SigmoidMargin:
    """A smooth count of wrong predictions: the mean of sigmoid((runner-up - true) / temperature).

    Ours. Cross-entropy grows without bound on an input that is wrong already, and flips go into
    making it more wrong. Here such an input is counted once and asks for nothing more: flips go
    where they turn predictions.

    Attributes:
        temperature: Difference of scores over which an input goes from right to wrong; above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, low=1e-9)

    @classmethod
    def of(cls, scores: Tensor, share: float) -> SigmoidMargin:
        """Return one whose temperature fits a model.

        A fixed temperature would mean something else for each model: where margins are many times
        as large, no gradient is left but that of the few inputs that are nearly wrong.

        Args:
            scores: (n, classes) of the model without flips.
            share: The temperature, in median margins between the two best scores; above 0.
        """
        two = scores.topk(2, 1).values
        median = float((two[:, 0] - two[:, 1]).median())
        return cls(temperature=max(share * median, 1e-9))

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the inputs, in [0, 1]."""
        own = labels[:, None]
        true = scores.gather(1, own)[:, 0]
        runner_up = scores.scatter(1, own, -torch.inf).amax(1)
        return torch.sigmoid((runner_up - true) / self.temperature).mean()


@dataclass(frozen=True, kw_only=True)
class AllToOne:
    """All inputs to one class: N-to-1 of T-BFA (arXiv 2007.12336).

    Attributes:
        target: Label of that class.
    """

    target: int

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return minus the mean cross-entropy with the target."""
        return -F.cross_entropy(scores, torch.full_like(labels, self.target))


@dataclass(frozen=True, kw_only=True)
class OneToOne:
    """Inputs of one class to another: 1-to-1 of T-BFA (arXiv 2007.12336).

    Attributes:
        source: Label of the first.
        target: Label of the second.
    """

    source: int
    target: int

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return minus the mean cross-entropy with the target over inputs of the source."""
        mine = labels == self.source
        return -F.cross_entropy(scores[mine], torch.full_like(labels[mine], self.target))


@dataclass(frozen=True, kw_only=True)
class StealthyOneToOne:
    """Inputs of one class to another, all others as they are: 1-to-1 (S) of T-BFA.

    The paper (arXiv 2007.12336) minimizes the sum of both cross-entropies. The authors' code adds
    the second as a plain number: it chooses between layers, but bits are ranked by the gradient of
    the first alone. Here both are in the gradient, as in the paper.

    Attributes:
        source: Label of the first class.
        target: Label of the second.
        balance: Weight of the others; at least 0, 1 in the authors' code.
    """

    source: int
    target: int
    balance: float = 1.0

    def __post_init__(self) -> None:
        check_number("balance", self.balance, low=0.0)

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return minus the sum of the two mean cross-entropies."""
        moved = OneToOne(source=self.source, target=self.target)(scores, labels)
        others = labels != self.source
        return moved - self.balance * F.cross_entropy(scores[others], labels[others])
