"""The verifier: judges the points that an attack returns, exactly as they are returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.access import Budget, Counter
from casemate.inference.norms import per_job, round_to_step, within

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.jobs import Stepper
    from casemate.target import Target

__all__ = ["verify"]


def verify(
    found: Tensor,
    attack: Stepper,
    target: Target,
    data: Dataset,
    goals: Tensor,
    *,
    round_points: bool,
    batch_size: int,
) -> tuple[Tensor, Tensor, Counter]:
    """Score the points once more, whatever was noted of them during the attack.

    Args:
        found: (n, *shape) on the CPU, changed in place: put on the domain's grid where that was
            asked for; a point outside the domain or epsilon is replaced by the clean input.
        attack: For its norm and epsilon.
        target: The model that the attacker worked against, guarded by the caller.
        data: The n clean samples.
        goals: (n,) labels to reach, -1 for any wrong one.
        round_points: Whether to put points on the grid.
        batch_size: Samples at a time.

    Returns:
        (n,) bool, the point fools the model; (n,) bool, its scores are not finite, which never
        counts as fooled; and what was used.
    """
    used = Counter()
    fooled = torch.zeros(len(data), dtype=torch.bool)
    broken = torch.zeros(len(data), dtype=torch.bool)
    for begin in range(0, len(data), batch_size):
        part = slice(begin, begin + batch_size)
        origin, points = data.batch(part), found[part]
        if round_points:
            points = round_to_step(points, origin, attack.norm, attack.epsilon, data.domain)
        inside = within(points, origin, attack.norm, attack.epsilon, data.domain)
        points = torch.where(per_job(inside, points), points, origin)
        found[part] = points
        used.spend(len(points), backward=False, budget=Budget())
        with torch.no_grad():
            scores = target.scores(points.to(target.device)).cpu()
        labels, finite = scores.argmax(1), scores.isfinite().all(1)
        goal, label = goals[part], data.targets[part]
        hit = torch.where(goal >= 0, labels == goal, labels != label)
        fooled[part] = hit & inside & finite
        broken[part] = ~finite
    return fooled, broken, used
