"""The fast gradient sign method (Goodfellow et al., arXiv 1412.6572, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from casemate.inference.attacks.bounded import (
    WHITE_BOX_EVASION,
    ascent_direction,
    check_epsilon,
)
from casemate.inference.norms import project
from casemate.inference.objectives import attack_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer
    from casemate.data.domain import Domain
    from casemate.inference.jobs import Jobs, Norm, State
    from casemate.threats import ThreatModel

__all__ = ["FGSM"]


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of size epsilon along the gradient's sign.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015
    (arXiv 1412.6572, section 4). With norm "l2" the step follows the normalized gradient instead.
    With a goal it descends the goal's loss (the one-step target class method of Kurakin et al.,
    arXiv 1611.01236).

    Attributes:
        epsilon: Size of the perturbation, in the domain's units.
        norm: "linf" or "l2".
    """

    epsilon: float = 8 / 255
    norm: Norm = "linf"

    threat: ClassVar[ThreatModel] = WHITE_BOX_EVASION
    revision: ClassVar[int] = 1
    minimizes: ClassVar[bool] = False
    restarts: ClassVar[int] = 1
    asks: ClassVar[int] = 2
    gradient_asks: ClassVar[int] = 1

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if epsilon does not fit the domain."""
        check_epsilon(self.epsilon, self.norm, domain)

    def start(self, jobs: Jobs) -> State:
        """Start at the clean input."""
        return {"x": jobs.origin.clone()}

    def ask(self, jobs: Jobs, state: State) -> Tensor:
        """Ask for the gradient at the clean input, then for the scores of the result."""
        del jobs
        return state["x"]

    def objective(self, jobs: Jobs, scores: Tensor) -> Tensor:
        """Cross-entropy."""
        return attack_cross_entropy(scores, jobs.label, jobs.goal)

    def tell(self, jobs: Jobs, state: State, answer: Answer) -> None:
        """X = clip(x + epsilon sign(gradient))."""
        assert answer.gradient is not None  # noqa: S101 - the declared access gives it
        step = ascent_direction(answer.gradient, self.norm).mul_(self.epsilon)
        state["x"] = project(
            step.add_(state["x"]), jobs.origin, self.norm, self.epsilon, jobs.domain
        )
