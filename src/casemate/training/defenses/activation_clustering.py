"""Activation clustering: poison forms a cluster of its own (arXiv 1811.03728)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from casemate.models.hyperparameters import choice, number, whole
from casemate.threats import Stage
from casemate.training.defenses.removal import by_class, learned, removed

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Sanitized
    from casemate.training.lab import Lab

__all__ = ["ActivationClustering", "divided", "reduced", "silhouette"]

Reduction = Literal["ica", "pca"]
Decision = Literal["relative-size", "silhouette", "both"]

_BLOCK = 1 << 22  # distances in memory at a time
_FEWEST = 3  # of two samples neither cluster is the smaller one
_RANK = 1e-9  # least variance of a direction, relative to the largest


@dataclass(frozen=True, kw_only=True)
class ActivationClustering:
    """Splits each class in two and removes the smaller part where the split looks like poison.

    Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy and Srivastava, "Detecting backdoor
    attacks on deep neural networks by activation clustering", SafeAI 2019 (arXiv 1811.03728):
    features of a model trained on the set, reduced by independent component analysis class by
    class, go through 2-means; a class is judged by the relative size of its parts or by their
    silhouette score. Its third way, exclusionary reclassification, which decides in the paper's own
    experiments, trains a model more for each class and is left out.

    The paper names no threshold of size; 35 percent is that of its authors' toolbox, whose
    silhouette analysis is "both" here. The silhouette is over all samples, in blocks. A class whose
    smaller part is exactly half, or with fewer than 3 samples or equal features, is not suspected
    and, in the latter two cases, not scored. Scores are ours: how much further a feature vector is
    from the center of the larger part than from that of the smaller one, over the distance of the
    two; they compare samples of one class only.

    Attributes:
        reduction: "ica", or "pca", principal components as they are.
        components: Dimensions that are kept, 1 to 100; the paper's 10. Fewer where the features of
            a class have fewer.
        decision: "relative-size", "silhouette", or "both" together.
        size: A part is suspiciously small below this, in percent of the class, above 0 and up to
            50; with "relative-size" and "both".
        silhouette: A split is suspiciously good above this, from -1 to 1; with "silhouette" and
            "both". The paper takes 0.10 to 0.15.
    """

    reduction: Reduction = "ica"
    components: int = 10
    decision: Decision = "relative-size"
    size: float = 35.0
    silhouette: float = 0.1

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "before"
    trainings: ClassVar[int] = 1
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        choice("activation-clustering.reduction", self.reduction, get_args(Reduction))
        choice("activation-clustering.decision", self.decision, get_args(Decision))
        whole("activation-clustering.components", self.components, low=1, high=100)
        number("activation-clustering.size", self.size, low=0, high=50, open_low=True)
        number("activation-clustering.silhouette", self.silhouette, low=-1, high=1)

    def sanitize(
        self,
        dataset: Dataset,
        rng: Stream,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> Sanitized:
        """Return the set without the smaller part of each suspected class."""
        layer, found = learned(dataset, lab)
        labels = dataset.targets
        scores = torch.full((len(labels),), math.nan)
        suspicious = torch.zeros(len(labels), dtype=torch.bool)
        judged: list[dict[str, Any]] = []
        for label, mine in by_class(labels):
            points = reduced(found[mine], self.reduction, self.components, rng.child(str(label)))
            if points.shape[1] == 0 or len(mine) < _FEWEST:
                continue
            smaller, scores[mine] = divided(points, rng.child(f"{label}/clusters"))
            quality = None if self.decision == "relative-size" else silhouette(points, smaller)
            share = 100 * int(smaller.sum()) / len(mine)
            suspected = self._suspects(share, quality)
            judged.append(
                {"class": label, "size": share, "silhouette": quality, "suspected": suspected}
            )
            suspicious[mine] = smaller & suspected
        return removed(
            dataset,
            suspicious,
            scores,
            how=("activation-clustering", self.revision, self),
            notes={"layer": layer, "classes": judged},
            scores_by_class=True,
        )

    def _suspects(self, share: float, quality: float | None) -> bool:
        small = self.decision == "silhouette" or share < self.size
        good = quality is None or quality > self.silhouette
        return small and good and share < 50  # noqa: PLR2004 - of two halves none is the smaller


def reduced(features: Tensor, reduction: Reduction, components: int, rng: Stream) -> Tensor:
    """Return the features of one class in few dimensions.

    Args:
        features: (n, d).
        reduction: "ica" or "pca".
        components: Most dimensions.
        rng: Of the first guess of independent components.

    Returns:
        (n, k) float64, k at most `components` and the rank of the centered features. Independent
        components have unit variance.
    """
    centered = features.double()
    centered = centered - centered.mean(0)
    values, vectors = torch.linalg.eigh(centered.T @ centered)
    # directions in which nothing varies would only whiten rounding errors
    rank = int((values > _RANK * values[-1].clamp(min=torch.finfo(torch.float64).tiny)).sum())
    kept = min(components, rank, max(len(features) - 1, 0))
    points: Tensor = centered @ vectors.flip(1)[:, :kept]
    if reduction == "pca" or kept == 0:
        return points
    ica = FastICA(whiten="unit-variance", random_state=_seed(rng))
    with warnings.catch_warnings():
        # what it has found after its last step is a basis all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        sources: np.ndarray = ica.fit_transform(points.numpy())
    return torch.from_numpy(np.ascontiguousarray(sources))


def divided(points: Tensor, rng: Stream) -> tuple[Tensor, Tensor]:
    """Return the smaller of two clusters and how far each point leans to it.

    Args:
        points: (n, k) float64, not all equal.
        rng: Of the first centers of 2-means.

    Returns:
        (n,) bool and (n,) float32, positive in the smaller cluster.
    """
    means = KMeans(2, n_init=10, random_state=_seed(rng)).fit(points.numpy())
    assigned = torch.from_numpy(means.labels_).bool()
    if 2 * int(assigned.sum()) > len(points):
        assigned = ~assigned
    centers = torch.stack([points[~assigned].mean(0), points[assigned].mean(0)])
    away = torch.cdist(points, centers)
    lean = (away[:, 0] - away[:, 1]) / (centers[0] - centers[1]).norm()
    return assigned, lean.float()


def silhouette(points: Tensor, assigned: Tensor) -> float:
    """Return the mean silhouette of two clusters (Rousseeuw, 1987), from -1 to 1.

    Args:
        points: (n, k).
        assigned: (n,) bool, whether a point is in the second cluster; neither may be empty.
    """
    member = torch.stack([~assigned, assigned], dim=1).to(points.dtype)
    sizes = member.sum(0)
    total = 0.0
    block = max(_BLOCK // len(points), 1)
    for begin in range(0, len(points), block):
        part = slice(begin, begin + block)
        sums = torch.cdist(points[part], points) @ member
        own = member[part].argmax(1, keepdim=True)
        others = sizes[own] - 1
        inside = sums.gather(1, own) / others.clamp(min=1)
        outside = sums.gather(1, 1 - own) / sizes[1 - own]
        value = (outside - inside) / torch.maximum(inside, outside).clamp(min=1e-300)
        total += float(value[others > 0].sum())  # alone in its cluster counts as 0
    return total / len(points)


def _seed(rng: Stream) -> int:
    return rng.key >> 32
