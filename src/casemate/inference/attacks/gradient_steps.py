"""What iterated gradient attacks share: steps of fixed size, projected into the ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from casemate.inference.attacks.bounded import (
    WHITE_BOX_EVASION,
    ascent_direction,
    check_choice,
    check_count,
    check_epsilon,
    check_positive,
)
from casemate.inference.norms import project
from casemate.inference.objectives import attack_cross_entropy, margin

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer
    from casemate.data.domain import Domain
    from casemate.inference.jobs import Jobs, Norm, State
    from casemate.threats import ThreatModel

__all__ = ["GradientSteps", "Loss"]

Loss = Literal["cross-entropy", "margin"]


@dataclass(frozen=True, kw_only=True)
class GradientSteps:
    """x = project(x + step_size * direction), a fixed number of times.

    Attributes:
        epsilon: Radius of the ball, in the domain's units.
        norm: "linf" (the direction is the gradient's sign) or "l2" (the normalized gradient).
        loss: "cross-entropy", or "margin" (the best other score minus the true one), which does
            not saturate where the model is very sure of itself.
    """

    epsilon: float = 8 / 255
    norm: Norm = "linf"
    loss: Loss = "cross-entropy"

    threat: ClassVar[ThreatModel] = WHITE_BOX_EVASION
    minimizes: ClassVar[bool] = False

    @property
    def schedule(self) -> tuple[int, float]:
        """The number of steps and their size in the domain's units."""
        raise NotImplementedError

    @property
    def restarts(self) -> int:
        """Without random start there is one."""
        return 1

    @property
    def asks(self) -> int:
        """One point a step, and the last one's scores."""
        return self.schedule[0] + 1

    @property
    def gradient_asks(self) -> int:
        """One gradient a step."""
        return self.schedule[0]

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter is out of range or does not fit the domain."""
        check_epsilon(self.epsilon, self.norm, domain)
        check_choice("loss", self.loss, ("cross-entropy", "margin"))
        steps, step_size = self.schedule
        check_count("steps", steps)
        check_count("restarts", self.restarts)
        if self.epsilon > 0:
            check_positive("step_size", step_size)

    def start(self, jobs: Jobs) -> State:
        """Start at the clean input."""
        return {"x": jobs.origin.clone()}

    def ask(self, jobs: Jobs, state: State) -> Tensor:
        """Ask for the gradient at the current point."""
        del jobs
        return state["x"]

    def objective(self, jobs: Jobs, scores: Tensor) -> Tensor:
        """Cross-entropy, or minus the margin."""
        if self.loss == "margin":
            return -margin(scores, jobs.label, jobs.goal)
        return attack_cross_entropy(scores, jobs.label, jobs.goal)

    def tell(self, jobs: Jobs, state: State, answer: Answer) -> None:
        """X = project(x + step_size * direction)."""
        assert answer.gradient is not None  # noqa: S101 - the declared access gives it
        x = ascent_direction(answer.gradient, self.norm).mul_(self.schedule[1]).add_(state["x"])
        state["x"] = project(x, jobs.origin, self.norm, self.epsilon, jobs.domain)
