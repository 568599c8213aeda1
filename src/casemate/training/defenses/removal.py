"""What defenses before training share: features to look at, and the set without the suspects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from casemate.data.dataset import digest_arrays
from casemate.models.layers import features
from casemate.training.defended import Sanitized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.training.lab import Lab

__all__ = ["by_class", "highest", "learned", "removed", "spared"]


def by_class(labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each label that occurs, with the (m,) int64 positions where it does, sorted."""
    for label in torch.bincount(labels).nonzero().flatten().tolist():
        yield label, (labels == label).nonzero().flatten()


def highest(scores: Tensor, count: int) -> Tensor:
    """Return (n,) bool, the `count` highest scores; of equal ones the first."""
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.argsort(descending=True, stable=True)[:count]] = True
    return chosen


def learned(dataset: Dataset, lab: Lab) -> tuple[str, Tensor]:
    """Return the last layer's name and (n, d) float32 features by a model trained on the set."""
    return features(lab.trained(dataset).target(lab.device), dataset)


def spared(suspicious: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Return (n,) bool suspects such that no class loses all its samples.

    Args:
        suspicious: (n,) bool, what a defense wants to remove.
        scores: (n,) how suspicious each sample is; NaN counts as not at all.
        labels: (n,) int64.

    Returns:
        As given, but a class of suspects alone keeps the least suspicious one, the first of equals.
    """
    kept = suspicious.clone()
    left = torch.bincount(labels[~suspicious], minlength=int(labels.max()) + 1)
    ranked = scores.nan_to_num(nan=-torch.inf)
    for label in torch.bincount(labels).nonzero().flatten().tolist():
        if left[label] == 0:
            mine = (labels == label).nonzero().flatten()
            kept[mine[ranked[mine].argmin()]] = False
    return kept


def removed(
    dataset: Dataset,
    suspicious: Tensor,
    scores: Tensor,
    *,
    how: tuple[Any, ...],
    notes: Mapping[str, Any],
    scores_by_class: bool = False,
) -> Sanitized:
    """Return the set without its suspects; each class keeps at least one sample.

    Args:
        dataset: As it came; it comes back as it is if nobody is suspected.
        suspicious: (n,) bool.
        scores: (n,) how suspicious each sample is.
        how: Name, revision and parameters of the defense, for the digest; the suspects are added.
        notes: What else there is to know.
        scores_by_class: Whether scores compare samples of one class only.
    """
    suspicious = spared(suspicious, scores, dataset.targets) if len(dataset) else suspicious
    suspects, kept = suspicious.nonzero().flatten(), (~suspicious).nonzero().flatten()
    if len(suspects):
        dataset = dataset.select(kept, how=(*how, digest_arrays(suspects)))
    return Sanitized(
        dataset=dataset,
        suspects=suspects,
        scores=scores.to(torch.float32),
        scores_by_class=scores_by_class,
        notes=dict(notes),
    )
