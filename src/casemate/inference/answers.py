"""Asking the model through the access that an attack declares, and judging what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from casemate.access import Answer, GradientAccess, LabelAccess, ScoreAccess
from casemate.inference.objectives import as_logits, margin

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.inference.jobs import Jobs, Stepper
    from casemate.target import Outputs

__all__ = ["ask", "ask_plainly", "judge", "usable"]


def ask(
    access: LabelAccess, attack: Stepper, jobs: Jobs, points: Tensor, outputs: Outputs
) -> Answer:
    """Evaluate (b, *shape) points, with gradients for the jobs to which they are due."""
    if not isinstance(access, GradientAccess):
        return ask_plainly(access, points)
    due = jobs.age < attack.gradient_asks
    if due.all():
        return _gradient(access, attack, jobs, points, outputs)
    plain = access.scores(points[~due])
    if not due.any():
        zero = torch.zeros_like(points)
        return Answer(plain.labels, plain.scores, zero.new_zeros(len(points)), zero)
    full = _gradient(access, attack, jobs.pick(due), points[due], outputs)
    return _interleave(due, full, plain, points)


def ask_plainly(access: LabelAccess, points: Tensor) -> Answer:
    """Return scores where the access gives them, else labels."""
    return access.scores(points) if isinstance(access, ScoreAccess) else access.labels(points)


def judge(answer: Answer, label: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Return (b,) bool, the model is fooled, and (b,) margins; where only labels are seen, +-1.

    Scores that are not finite fool nobody; their margin is infinite.
    """
    hit = torch.where(goal >= 0, answer.labels == goal, answer.labels != label)
    if answer.scores is None:
        return hit, torch.where(hit, -1.0, 1.0)
    finite = answer.scores.isfinite().all(1)
    lead = margin(answer.scores.float(), label, goal)
    return hit & finite, torch.where(finite, lead, float("inf"))


def usable(answer: Answer, not_finite: Tensor) -> Answer:
    """Return the answer with zero for what is not finite in the gradient, where that was noted."""
    if answer.gradient is None or not not_finite.any():
        return answer
    return replace(answer, gradient=answer.gradient.nan_to_num(0.0, 0.0, 0.0))


def _gradient(
    access: GradientAccess, attack: Stepper, jobs: Jobs, points: Tensor, outputs: Outputs
) -> Answer:
    return access.gradient(points, lambda s: attack.objective(jobs, as_logits(s, outputs)))


def _interleave(due: Tensor, full: Answer, plain: Answer, points: Tensor) -> Answer:
    """Return one answer for all jobs from those of the jobs with and without gradient."""

    def both(with_gradient: Tensor | None, without: Tensor | None) -> Tensor:
        assert with_gradient is not None  # noqa: S101 - gradient access gives all of these
        out = with_gradient.new_zeros((len(points), *with_gradient.shape[1:]))
        out[due] = with_gradient
        if without is not None:
            out[~due] = without
        return out

    return Answer(
        both(full.labels, plain.labels),
        both(full.scores, plain.scores),
        both(full.loss, None),
        both(full.gradient, None),
    )
