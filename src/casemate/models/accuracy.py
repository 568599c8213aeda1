"""How often a target is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError
from casemate.guard import guarded
from casemate.stats import rate

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.stats import Measurement
    from casemate.target import Target

__all__ = ["accuracy"]


def accuracy(target: Target, dataset: Dataset, *, batch_size: int = 512) -> Measurement:
    """Return the target's top-1 accuracy on a data set, with Wilson's interval.

    Args:
        target: Evaluated in evaluation mode and left as it was.
        dataset: In the target's domain, with its classes.
        batch_size: Samples a call; does not change the result.

    Raises:
        UsageError: If inputs or classes do not fit the target.
    """
    if dataset.domain.shape != target.domain.shape:
        raise UsageError(
            f"{dataset.name} holds inputs of shape {dataset.domain.shape}, but the model takes "
            f"{target.domain.shape}; give data of that shape, or set preprocessing.size"
        )
    if len(dataset.classes) != len(target.classes):
        raise UsageError(
            f"{dataset.name} has {len(dataset.classes)} classes, but the model has "
            f"{len(target.classes)}; give the data that the model was trained for"
        )
    labels = dataset.targets
    right = 0
    with guarded(target.modules, [target.device]), torch.no_grad():
        for start in range(0, len(dataset), batch_size):
            part = slice(start, start + batch_size)
            inputs, truth = dataset.batch(part, device=target.device), labels[part]
            if target.outputs == "labels":
                right += int((target.labels(inputs).cpu() == truth).sum())
                continue
            scores = target.scores(inputs).cpu()
            # what a deployed system would do with a score that is no number is unknown: not right
            right += int(((scores.argmax(1) == truth) & scores.isfinite().all(1)).sum())
    return rate("accuracy", right, len(dataset))
