"""Spectral signatures: poison stands out along one direction of a class (arXiv 1811.00636)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.models.hyperparameters import number
from casemate.threats import Stage
from casemate.training.defenses.removal import by_class, highest, learned, removed

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Sanitized
    from casemate.training.lab import Lab

__all__ = ["SpectralSignatures", "signatures"]

_MARGIN = 1.5  # the paper removes this many times the poison that it assumes


@dataclass(frozen=True, kw_only=True)
class SpectralSignatures:
    """Removes of each class what correlates most with its top singular vector.

    Tran, Li and Madry, "Spectral signatures in backdoor attacks", NeurIPS 2018 (arXiv 1811.00636):
    features of a model trained on the set are centered class by class; the score of a sample is its
    squared correlation with the top right singular vector of its class; the 1.5 epsilon highest
    scores of each class are removed. So clean classes, and clean sets, lose as large a share as
    poisoned ones. The authors' code looks at the target's class only, which it is told.

    The paper's epsilon is a number of samples, the same for each class; here it is a share of each
    class, so that classes of different size are treated alike, and 1.5 epsilon is rounded to whole
    samples (both ours). Features are what flows into the last layer. Scores compare samples of one
    class only.

    Attributes:
        epsilon: Upper bound on the poison in a class, in percent of the class as it came, poison
            included; above 0 and up to 66.
    """

    epsilon: float = 10.0

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "before"
    trainings: ClassVar[int] = 1
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        number("spectral-signatures.epsilon", self.epsilon, low=0, high=66, open_low=True)

    def sanitize(
        self,
        dataset: Dataset,
        rng: Stream,  # noqa: ARG002 - nothing here is random
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> Sanitized:
        """Return the set without the highest scores of each class."""
        layer, found = learned(dataset, lab)
        labels = dataset.targets
        scores = signatures(found, labels)
        suspicious = torch.zeros(len(labels), dtype=torch.bool)
        for _, mine in by_class(labels):
            suspicious[mine] = highest(
                scores[mine], round(_MARGIN * self.epsilon / 100 * len(mine))
            )
        return removed(
            dataset,
            suspicious,
            scores,
            how=("spectral-signatures", self.revision, self),
            notes={"layer": layer},
            scores_by_class=True,
        )


def signatures(features: Tensor, labels: Tensor) -> Tensor:
    """Return squared correlations with the top right singular vector of each class.

    Args:
        features: (n, d).
        labels: (n,) int64.

    Returns:
        (n,) float32.
    """
    scores = torch.zeros(len(labels))
    for _, mine in by_class(labels):
        centered = features[mine].double()
        centered -= centered.mean(0)
        # the smaller of the two Gram matrices knows the vector: M v = sigma u
        if centered.shape[0] < centered.shape[1]:
            values, vectors = torch.linalg.eigh(centered @ centered.T)
            found = values[-1].clamp(min=0) * vectors[:, -1].square()
        else:
            _, vectors = torch.linalg.eigh(centered.T @ centered)
            found = (centered @ vectors[:, -1]).square()
        scores[mine] = found.float()
    return scores
