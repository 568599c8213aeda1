"""Objectives of the scores: each maps (b, classes) to (b,), and the attack raises it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

if TYPE_CHECKING:
    from casemate.target import Outputs

__all__ = ["as_logits", "attack_cross_entropy", "event_log_probability", "margin"]


def as_logits(scores: Tensor, outputs: Outputs) -> Tensor:
    """Return scores whose softmax is the model's probabilities.

    Those of a model that gives probabilities are their logarithms: a loss that applies softmax to
    probabilities would see hardly any difference between them.
    """
    if outputs != "probabilities":
        return scores
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


def attack_cross_entropy(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    """Return the cross-entropy of the true label, or minus that of the goal where there is one.

    Args:
        scores: (b, classes) logits.
        label: (b,) true labels.
        goal: (b,) labels to reach, -1 for none.
    """
    targeted = goal >= 0
    odds = _log_odds_against(scores, torch.where(targeted, goal, label))
    loss = F.softplus(odds)  # log(1 + exp(odds)), which is -log p
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
    odds = _log_odds_against(scores, torch.where(targeted, goal, label))
    return -F.softplus(torch.where(targeted, odds, -odds))


def _log_odds_against(scores: Tensor, key: Tensor) -> Tensor:
    """Return log((1 - p) / p) of the class `key`.

    The textbook gradient of the cross-entropy, p - 1 for the class itself, is 0 in float32 as soon
    as p exceeds 1 - 6e-8, while those of the other classes are not: its direction is wrong just
    where a model is sure of itself. This form keeps the direction until exp(odds) underflows.
    """
    mine = scores.gather(1, key[:, None]).squeeze(1)
    return scores.scatter(1, key[:, None], float("-inf")).logsumexp(1) - mine


def margin(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    """Return how far each sample is from fooling the model: negative once it does.

    Untargeted: score of the true label minus the best other. Targeted: the best other score minus
    that of the goal.
    """
    key = torch.where(goal >= 0, goal, label)
    mine = scores.gather(1, key[:, None]).squeeze(1)
    others = scores.scatter(1, key[:, None], float("-inf")).amax(1)
    return torch.where(goal >= 0, others - mine, mine - others)
