"""What poison costs: one-sided limits of the drop of accuracy, overall and of each class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.stats import t as student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.training.trained import TrainedModel

__all__ = ["Impact", "fewest"]

_BATCH = 512
_LEVEL = 0.95
_FEWEST = 2  # one value has no deviation


@dataclass(frozen=True, kw_only=True)
class Impact:
    """Upper ends of one-sided 95 % intervals.

    Attributes:
        drop: Of accuracy, as a share.
        worst: Of the accuracy of the class that may have lost most, corrected by Bonferroni for
            having looked at all classes.
    """

    drop: float
    worst: float

    @classmethod
    def of(
        cls,
        models: Sequence[TrainedModel],
        clean: Sequence[TrainedModel],
        data: Dataset,
        device: torch.device | str,
        classes: Sequence[int] | None = None,
    ) -> Impact:
        """Hold poisoned models against clean ones on samples that neither was trained on.

        Args:
            models: Trained on poison.
            clean: Trained without it; as many.
            data: The samples.
            device: Where the models run.
            classes: Labels to answer for, also those without a sample here, of which nothing is
                known; those that occur if omitted.
        """
        before = torch.stack([_right(m, data, device) for m in clean]).mean(0)
        after = torch.stack([_right(m, data, device) for m in models]).mean(0)
        lost, labels = before - after, data.targets
        if classes is None:
            classes = torch.bincount(labels).nonzero().flatten().tolist()
        kinds = [lost[labels == c] for c in classes]
        level = 1 - (1 - _LEVEL) / len(kinds)
        return cls(drop=_upper(lost, _LEVEL), worst=max(_upper(k, level) for k in kinds))

    def within(self, delta: float, delta_class: float) -> bool:
        """Whether both bounds are kept with confidence."""
        return self.drop <= delta and self.worst <= delta_class


def fewest(bound: float, classes: int = 1) -> int:
    """Return how many samples it takes to show that a drop is within a bound, if none is lost.

    Args:
        bound: On the drop of accuracy, in (0, 1].
        classes: How many are looked at, for the bound on each one.
    """
    if bound == 1:  # no drop is larger
        return 0
    level = 1 - (1 - _LEVEL) / classes
    count = max(_FEWEST, math.ceil(math.log(1 - level) / math.log1p(-bound)))
    return count if _of_no_event(count, level) <= bound else count + 1  # it was rounded


def _right(model: TrainedModel, data: Dataset, device: torch.device | str) -> Tensor:
    """Return (n,) 1 where a model is right and 0 where not."""
    target, found = model.target(device), []
    for begin in range(0, len(data), _BATCH):
        part = slice(begin, begin + _BATCH)
        with torch.no_grad():
            answers = target.labels(data.batch(part, device=device)).cpu()
        found.append(answers == data.targets[part])
    return torch.cat(found).float()


def _upper(values: Tensor, level: float) -> float:
    """Return the upper end of a one-sided interval of the mean of values up to 1, at most 1.

    Student's; where all values are equal they show no deviation, and what is known is that a value
    of 1 is not so frequent that it would likely have been seen: at most 1 - (1 - level)^(1/n)
    (Clopper and Pearson, 1934, for no event). Of fewer than two values nothing is known.
    """
    n = len(values)
    if n < _FEWEST:
        return 1.0
    if float(values.std()) == 0:
        value = float(values[0])
        return value + (1.0 - value) * _of_no_event(n, level)
    reach = float(student.ppf(level, n - 1)) * float(values.std()) / math.sqrt(n)
    return min(1.0, float(values.mean()) + reach)


def _of_no_event(n: int, level: float) -> float:
    """Return the upper end of the interval of Clopper and Pearson for no event among n."""
    return 1.0 - math.exp(math.log(1.0 - level) / n)
