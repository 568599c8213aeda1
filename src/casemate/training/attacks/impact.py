"""What poison costs: one-sided limits of the drop of accuracy, overall and of each class."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from scipy.stats import beta

from casemate.stats import tango

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.training.trained import TrainedModel

__all__ = ["Impact", "fewest"]

_BATCH = 512
_LEVEL = 0.95


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
    low, high = 0, 1
    while _end(0.0, 0.0, high, level) > bound:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _end(0.0, 0.0, middle, level) > bound else (low, middle)
    return high


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
    """Return the upper end of a one-sided interval of the mean of values from -1 to 1.

    A value is what a sample lost, on average over models. The end is that of Tango's interval for
    the difference of two rates of the same samples (`stats.tango`), and no less than that of
    Clopper and Pearson (1934) for the net losses, which is exact where nothing is gained. Of no
    value nothing is known.
    """
    n = len(values)
    if n == 0:
        return 1.0
    lost, gained = (float(v.clamp(min=0).sum(dtype=torch.float64)) for v in (values, -values))
    return _end(lost, gained, n, level)


def _end(lost: float, gained: float, n: int, level: float) -> float:
    score = tango(lost, gained, n, z=NormalDist().inv_cdf(level))[1]
    net = max(0.0, lost - gained)
    return max(score, float(beta.ppf(level, net + 1, n - net)) if net < n else 1.0)
