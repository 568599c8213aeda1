"""Projected gradient descent (Madry et al., arXiv 1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from casemate.errors import UsageError
from casemate.inference.attacks.gradient_steps import GradientSteps
from casemate.inference.norms import flat, per_job, project

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain
    from casemate.inference.jobs import Jobs, Norm, State

__all__ = ["PGD", "random_in_ball"]


@dataclass(frozen=True, kw_only=True)
class PGD(GradientSteps):
    """Projected gradient descent from random starts.

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018
    (arXiv 1706.06083, section 2.1).

    Attributes:
        epsilon: Radius of the ball, in the domain's units.
        norm: "linf" or "l2".
        loss: "cross-entropy" or "margin".
        steps: Gradient steps of one job, at least 1.
        step_size: In the domain's units; None is 2.5 epsilon / steps, so that every point of the
            ball can be reached (ibid., section 5).
        restarts: Independent random starts; the best point of all counts.
        random_start: Start at a uniform random point of the ball rather than at the input.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True

    revision: ClassVar[int] = 1

    @property
    def schedule(self) -> tuple[int, float]:
        """The number of steps and their size."""
        if self.step_size is not None:
            return self.steps, self.step_size
        return self.steps, 2.5 * self.epsilon / max(1, self.steps)

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter is out of range or does not fit the domain."""
        super().check(domain)
        if self.restarts > 1 and not self.random_start:
            raise UsageError(
                f"restarts is {self.restarts}, but without random_start each would be the same; "
                "set random_start or leave restarts at 1"
            )

    def start(self, jobs: Jobs) -> State:
        """Start at a random point of the ball, or at the clean input."""
        if not self.random_start:
            return super().start(jobs)
        x = random_in_ball(jobs, self.norm, self.epsilon).add_(jobs.origin)
        return {"x": project(x, jobs.origin, self.norm, self.epsilon, jobs.domain)}


def random_in_ball(jobs: Jobs, norm: Norm, epsilon: float, *, draw: int = 0) -> Tensor:
    """Return (b, *shape) points uniform in the epsilon ball around zero.

    L2: a Gaussian direction, with the radius distributed as U**(1/size).
    """
    if norm == "linf":
        return (
            jobs.stream.uniform(jobs.words, jobs.domain.shape, draw=draw)
            .mul_(2)
            .sub_(1)
            .mul_(epsilon)
        )
    direction = jobs.stream.child("direction").normal(jobs.words, jobs.domain.shape, draw=draw)
    radius = jobs.stream.child("radius").uniform(jobs.words, (1,), draw=draw).view(-1)
    radius.pow_(1 / jobs.domain.size).mul_(epsilon)
    return direction.mul_(
        per_job(radius / flat(direction).norm(dim=1).clamp_min_(1e-12), direction)
    )
