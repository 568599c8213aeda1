"""Which samples an attacker poisons: those that teach most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.target import TorchTarget

__all__ = ["HOSTS", "Hosts", "margins", "spread"]

Hosts = Literal["random", "confident", "doubtful", "spread", "forgotten", "resistant", "borderline"]
HOSTS: tuple[str, ...] = get_args(Hosts)

_BATCH = 512


def margins(
    models: Sequence[TorchTarget],
    data: Dataset,
    labels: Tensor,
    show: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return how far the score of a label lies above all others, the mean over models.

    Args:
        models: At least one.
        data: The samples.
        labels: (n,) int64 of which label.
        show: What the models are shown instead of (b, *shape) inputs; the inputs if omitted.

    Returns:
        (n,) float32 on the CPU.
    """
    found = []
    for begin in range(0, len(data), _BATCH):
        part = slice(begin, begin + _BATCH)
        x, label = data.batch(part), labels[part, None]
        shown = x if show is None else show(x)
        total = torch.zeros(len(x))
        for model in models:
            with torch.no_grad():
                scores = model.scores(shown.to(model.device)).cpu()
            own = scores.gather(1, label).squeeze(1)
            total += own - scores.scatter(1, label, float("-inf")).amax(1)
        found.append(total / len(models))
    return torch.cat(found)


def spread(order: Tensor, data: Dataset, count: int) -> Tensor:
    """Return the first samples of an order, the same number of each class as far as it goes.

    Args:
        order: (m,) int64 positions, the best first.
        data: Where they are; of samples that belong together (`Dataset.groups`) only the first is
            taken, as long as there are others.
        count: How many.

    Returns:
        (count,) int64 positions, or all of them if there are fewer.
    """
    groups = data.group_ids
    again = torch.zeros(len(order), dtype=torch.bool)
    if groups is not None:
        _, firsts = np.unique(groups[order].numpy(), return_index=True)
        again[:] = True
        again[torch.from_numpy(firsts)] = False
    # first of their group before others, then first of their class before second
    rank = _rank(data.targets[order] + len(data.classes) * again.long())
    key = rank + len(order) * again.long()
    return order[key.argsort(stable=True)][:count]


def _rank(kinds: Tensor) -> Tensor:
    """Return (m,) how many of the same kind stand before each."""
    by_kind = kinds.argsort(stable=True)
    counts = torch.bincount(kinds)
    starts = (counts.cumsum(0) - counts)[kinds[by_kind]]
    rank = torch.empty_like(kinds)
    rank[by_kind] = torch.arange(len(kinds)) - starts
    return rank
