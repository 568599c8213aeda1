"""Objectives of the scores: each maps (b, classes) to (b,), and the attack raises it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

__all__ = ["attack_cross_entropy", "event_log_probability", "margin"]


def attack_cross_entropy(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    """Return the cross-entropy of the true label, or minus that of the goal where there is one.

    Args:
        scores: (b, classes) logits.
        label: (b,) true labels.
        goal: (b,) labels to reach, -1 for none.
    """
    targeted = goal >= 0
    loss = F.cross_entropy(scores, torch.where(targeted, goal, label), reduction="none")
    return torch.where(targeted, -loss, loss)


def event_log_probability(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    """Return the log-probability of what the attacker wants: the goal, or any wrong label.

    At most 0, and flat once the attacker has it, unlike the true label's cross-entropy.

    Args:
        scores: (b, classes) logits.
        label: (b,) true labels.
        goal: (b,) labels to reach, -1 for none.
    """
    targeted = goal >= 0
    log_p = scores.log_softmax(1)
    wanted = log_p.gather(1, goal.clamp_min(0)[:, None]).squeeze(1)
    wrong = log_p.scatter(1, label[:, None], float("-inf")).logsumexp(1)
    return torch.where(targeted, wanted, wrong)


def margin(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    """Return how far each sample is from fooling the model: negative once it does.

    Untargeted: score of the true label minus the best other. Targeted: the best other score minus
    that of the goal.
    """
    key = torch.where(goal >= 0, goal, label)
    mine = scores.gather(1, key[:, None]).squeeze(1)
    others = scores.scatter(1, key[:, None], float("-inf")).amax(1)
    return torch.where(goal >= 0, others - mine, mine - others)
