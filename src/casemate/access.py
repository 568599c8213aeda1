"""What an attacker may touch: access as a type, every use counted and bounded.

`GradientAccess` can do all that `ScoreAccess` can, and that all that `LabelAccess` can. An attack
declares one of them; the engine evaluates the points that the attack asks for through exactly
that access and tells it only what the access gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.errors import AccessDeniedError, BudgetExceededError
from casemate.threats import Access

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.target import Target

__all__ = [
    "Answer",
    "Budget",
    "Counter",
    "GradientAccess",
    "LabelAccess",
    "ScoreAccess",
    "open_access",
]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Upper bounds on what an access gives in all; None is unbounded.

    Attributes:
        forward: Samples sent forward through the model.
        backward: Samples differentiated.
    """

    forward: int | None = None
    backward: int | None = None


@dataclass
class Counter:
    """What an access has given so far.

    Attributes:
        calls: Calls of the model.
        forward: Samples sent forward; each is one query.
        backward: Samples differentiated.
    """

    calls: int = 0
    forward: int = 0
    backward: int = 0

    def spend(self, n: int, *, backward: bool, budget: Budget) -> None:
        """Count n samples, or raise `BudgetExceededError` before anything is computed."""
        for name, used, limit in (
            ("forward", self.forward, budget.forward),
            ("backward", self.backward, budget.backward),
        ):
            if (name == "forward" or backward) and limit is not None and used + n > limit:
                raise BudgetExceededError(
                    f"{n} more {name} samples would exceed the budget of {limit} ({used} used)"
                )
        self.calls += 1
        self.forward += n
        self.backward += n if backward else 0


@dataclass(frozen=True)
class Answer:
    """What the model said of b points; what the access does not give is None.

    Attributes:
        labels: (b,) int64 predictions.
        scores: (b, classes).
        loss: (b,) the attack's objective at each point.
        gradient: (b, *shape) of the objective's sum with respect to the points.
    """

    labels: Tensor
    scores: Tensor | None = None
    loss: Tensor | None = None
    gradient: Tensor | None = None


class LabelAccess:
    """The attacker sees predicted labels."""

    level = Access.LABELS

    def __init__(self, target: Target, budget: Budget | None = None) -> None:
        self._target = target
        self._budget = budget or Budget()
        self.used = Counter()

    def labels(self, x: Tensor) -> Answer:
        """Return labels of (b, *shape) points."""
        self.used.spend(len(x), backward=False, budget=self._budget)
        with torch.no_grad():
            return Answer(self._target.labels(x))


class ScoreAccess(LabelAccess):
    """The attacker sees the score of every class."""

    level = Access.SCORES

    def __init__(self, target: Target, budget: Budget | None = None) -> None:
        if target.outputs == "labels":
            raise AccessDeniedError(
                "the attack needs scores but the model gives labels only; "
                "choose an attack that needs labels only (casemate list attacks)"
            )
        super().__init__(target, budget)

    def scores(self, x: Tensor) -> Answer:
        """Return labels and scores of (b, *shape) points."""
        self.used.spend(len(x), backward=False, budget=self._budget)
        with torch.no_grad():
            scores = self._target.scores(x)
        return Answer(scores.argmax(1), scores)


class GradientAccess(ScoreAccess):
    """The attacker can differentiate through the model."""

    level = Access.GRADIENTS

    def __init__(self, target: Target, budget: Budget | None = None) -> None:
        if not target.differentiable:
            raise AccessDeniedError(
                "the attack needs gradients but the model is a black box; choose an attack that "
                "needs less (casemate list attacks), or load the model with a torch factory"
            )
        super().__init__(target, budget)

    def gradient(self, x: Tensor, objective: Callable[[Tensor], Tensor]) -> Answer:
        """Return labels, scores, objective and its gradient at (b, *shape) points.

        Only the points' gradient is computed, no parameter's.

        Args:
            x: Points; left as they are.
            objective: (b, classes) scores to (b,) losses; the sum is differentiated, so that a
                sample's gradient does not depend on its batch.
        """
        self.used.spend(len(x), backward=True, budget=self._budget)
        points = x.detach().requires_grad_(True)
        with torch.enable_grad():
            scores = self._target.scores(points)
            loss = objective(scores)
            gradient = None
            if loss.requires_grad:
                (gradient,) = torch.autograd.grad(loss.sum(), points, allow_unused=True)
        if gradient is None:  # outputs do not depend on the inputs: the health check reports it
            gradient = torch.zeros_like(x)
        detached = scores.detach()
        return Answer(detached.argmax(1), detached, loss.detach(), gradient)


def open_access(level: Access, target: Target, budget: Budget | None = None) -> LabelAccess:
    """Return the access of that level to the target.

    Raises:
        AccessDeniedError: If the target cannot give it.
    """
    kinds = {
        Access.GRADIENTS: GradientAccess,
        Access.SCORES: ScoreAccess,
        Access.LABELS: LabelAccess,
    }
    if level not in kinds:
        raise AccessDeniedError(
            f'the attack declares access "{level.value}", with which no point can be evaluated; '
            f"declare one of {', '.join(k.value for k in kinds)} in its threat model"
        )
    return kinds[level](target, budget)
