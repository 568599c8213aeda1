"""Deep k-NN: a sample that its neighbors outvote is no member of its class (arXiv 1909.13374)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import ParameterError
from casemate.models.hyperparameters import whole
from casemate.threats import Stage
from casemate.training.defenses.removal import learned, removed

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Sanitized
    from casemate.training.lab import Lab

__all__ = ["KNNDisagreement", "disagreement"]

_BLOCK = 1 << 23  # distances in memory at a time


@dataclass(frozen=True, kw_only=True)
class KNNDisagreement:
    """Removes samples whose label is not the most frequent one among their nearest neighbors.

    Peri, Gupta, Huang, Fowl, Zhu, Feizi, Goldstein and Dickerson, "Deep k-NN defense against
    clean-label data poisoning attacks", ECCV workshops 2020 (arXiv 1909.13374), in Euclidean
    distance between features of a model trained on the set. m poisoned samples that lie
    together outvote the rest unless k exceeds 2 (m - 1).

    Ours: a sample is not its own neighbor (in the authors' code it is); a label that shares the
    first place stays; and a sample of a class of c samples asks only its 2 (c - 1) nearest, because
    a small class would be outvoted by its size alone. The authors count samples of small classes
    several times instead. The one sample of a class is neither judged nor scored. Features are what
    flows into the last layer.

    Attributes:
        k: Neighbors that vote, at least 1. The authors try 2 to 400 with 50 samples in a class; 100
            is what they keep while they vary something else. A set has to have more samples than
            that; only small classes ask fewer.
    """

    k: int = 100

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "before"
    trainings: ClassVar[int] = 1
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        whole("knn-disagreement.k", self.k, low=1)

    def check(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - the samples decide
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> None:
        """Raise `UsageError` unless a sample has k others."""
        if self.k >= len(dataset):
            raise ParameterError(
                "knn-disagreement.k",
                f"is {self.k}, but each of the {len(dataset)} samples of {dataset.name} has "
                f"{max(len(dataset) - 1, 0)} neighbors; give at most that",
            )

    def sanitize(
        self,
        dataset: Dataset,
        rng: Stream,  # noqa: ARG002 - nothing here is random
        lab: Lab,
        clean: Dataset | None = None,
    ) -> Sanitized:
        """Return the set without the samples that are outvoted."""
        self.check(dataset, lab, clean)
        layer, found = learned(dataset, lab)
        suspicious, scores = disagreement(found.to(lab.device), dataset.targets, self.k)
        return removed(
            dataset,
            suspicious,
            scores,
            how=("knn-disagreement", self.revision, self),
            notes={"layer": layer},
        )


def disagreement(features: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return which samples are outvoted, and by how much.

    Args:
        features: (n, d), on any device.
        labels: (n,) int64.
        k: Neighbors that vote, fewer in small sets and classes.

    Returns:
        (n,) bool, and (n,) float32, the share of voters with another label, NaN without voters.
    """
    n = len(labels)
    sizes = torch.bincount(labels)
    voters = (2 * (sizes - 1)).clamp(max=min(k, n - 1))[labels]
    most = int(voters.max()) if n else 0
    suspicious = torch.zeros(n, dtype=torch.bool)
    scores = torch.full((n,), math.nan)
    if most == 0:
        return suspicious, scores
    features = features - features.mean(0)  # short vectors round less
    squares = features.square().sum(1)
    block = max(_BLOCK // n, 1)
    for begin in range(0, n, block):
        mine = torch.arange(begin, min(begin + block, n))
        here = mine.to(features.device)
        # the rest of the squared distance is the same for all neighbors of a sample
        away = torch.addmm(squares, features[here], features.T, alpha=-2)
        away[torch.arange(len(here), device=away.device), here] = math.inf
        nearest = away.topk(most, largest=False).indices.cpu()
        asked = torch.arange(most) < voters[mine, None]
        votes = torch.zeros(len(mine), len(sizes)).scatter_add_(1, labels[nearest], asked.float())
        own = votes.gather(1, labels[mine, None]).squeeze(1)
        suspicious[mine] = own < votes.amax(1)
        scores[mine] = 1 - own / voters[mine]  # 0 / 0 is NaN
    return suspicious, scores
