"""Mahalanobis distance of features to the nearest class (arXiv 1807.03888)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import UsageError
from casemate.guard import guarded
from casemate.models.hyperparameters import number
from casemate.models.layers import features, head, listening
from casemate.threats import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget

__all__ = ["Mahalanobis", "gaussians"]

_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Mahalanobis:
    """Suspects inputs whose features lie far from those of every class.

    Lee, Lee, Lee and Shin, "A simple unified framework for detecting out-of-distribution samples
    and adversarial attacks", NeurIPS 2018 (arXiv 1807.03888, section 2.1, equations 1 and 2): one
    Gaussian a class, with one covariance for all of them, fitted to what flows into the last layer
    for clean samples; the score is the squared distance to the nearest mean. The paper's noise on
    the input and its weighted sum over layers, both tuned on attacks, are left out.

    Attributes:
        shrinkage: Share of the mean variance that replaces part of the covariance, above 0 and up
            to 1, so that it can be inverted where features are constant; ours.
        false_alarms: Share of clean inputs that may raise alarm, above 0 and up to 0.5.
    """

    shrinkage: float = 1e-3
    false_alarms: float = 0.01

    stage: ClassVar[Stage] = Stage.INFERENCE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        number("mahalanobis.shrinkage", self.shrinkage, low=0, high=1, open_low=True)
        number("mahalanobis.false_alarms", self.false_alarms, low=0, high=0.5, open_low=True)

    def fewest(self, clean: Dataset) -> int:
        """Return how many of these samples it has to be fitted on: some class has to vary."""
        if len(clean) and int(torch.bincount(clean.targets).max()) > 1:
            return 2
        return len(clean.classes) + 1  # of so many two are of one class

    def fit(
        self,
        target: TorchTarget,
        clean: Dataset,
        rng: Stream,  # noqa: ARG002 - nothing here is random
    ) -> _Measured:
        """Return the monitor with the means and the covariance of clean samples.

        Raises:
            UsageError: If there are fewer than two samples, or their features are all the same.
        """
        if len(clean) < 2:  # noqa: PLR2004 - one has no variance
            raise UsageError(f"mahalanobis needs at least 2 clean samples, got {len(clean)}")
        _, found = features(target, clean)
        means, whitening = gaussians(found, clean.targets, self.shrinkage)
        return _Measured(target=target, means=means, whitening=whitening)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """Mahalanobis distances for one model.

    Attributes:
        target: The model.
        means: (classes, d) float64, of the classes that clean samples were of.
        whitening: (d, d) float64, whose product with its transpose is the inverse covariance.
    """

    target: TorchTarget
    means: Tensor
    whitening: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """Return squared Mahalanobis distances to the nearest class."""
        target = self.target
        found: list[Tensor] = []
        with (
            guarded(target.modules, [target.device]),
            torch.no_grad(),
            listening(
                head(target).module, lambda into, _: found.append(into.flatten(1).double().cpu())
            ),
        ):
            for begin in range(0, len(x), _BATCH):
                target.scores(x[begin : begin + _BATCH].to(target.device))
        if not found:
            return torch.zeros(0)
        away = torch.cdist(torch.cat(found) @ self.whitening, self.means @ self.whitening)
        return away.amin(1).square().float()


def gaussians(features: Tensor, labels: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return the means of the classes and what whitens their common covariance.

    Args:
        features: (n, d).
        labels: (n,) int64.
        shrinkage: Share of the mean variance in the covariance.

    Returns:
        (classes that occur, d) and (d, d), float64: W with W W^T the inverse covariance.

    Raises:
        UsageError: If no class has two different samples.
    """
    _, index = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call] # torch's stub
    points = features.double()
    sizes = torch.bincount(index).double()
    sums = points.new_zeros(len(sizes), points.shape[1]).index_add_(0, index, points)
    means = sums / sizes[:, None]
    rest = points - means[index]
    covariance = rest.T @ rest / len(points)
    variance = covariance.diagonal().mean()
    if not variance > 0:
        raise UsageError("mahalanobis: the features of each class are all the same; give more data")
    covariance = (1 - shrinkage) * covariance
    covariance.diagonal().add_(shrinkage * variance)
    values, vectors = torch.linalg.eigh(covariance)
    return means, vectors / values.sqrt()
