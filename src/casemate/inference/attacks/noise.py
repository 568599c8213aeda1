"""Random noise of the same size as an attack: the control that every attack is read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.inference.attacks.bounded import check_count, check_epsilon
from casemate.inference.norms import flat, per_job, project
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer
    from casemate.data.domain import Domain
    from casemate.inference.jobs import Jobs, Norm, State

__all__ = ["GaussianNoise", "UniformNoise"]

_BLIND = ThreatModel(
    threat="evasion-black-box",
    stage=Stage.INFERENCE,
    # a control for both: how often noise happens to reach a goal is what an attack is read against
    goals=(Goal.INTEGRITY_UNTARGETED, Goal.INTEGRITY_TARGETED),
    access=Access.LABELS,
    knowledge=Knowledge.BLACK_BOX,
    budget="noise of at most epsilon in the norm, in the domain's units, and a number of draws",
)


@dataclass(frozen=True, kw_only=True)
class _Noise:
    epsilon: float = 8 / 255
    norm: Norm = "linf"
    draws: int = 1

    threat: ClassVar[ThreatModel] = _BLIND
    revision: ClassVar[int] = 1
    minimizes: ClassVar[bool] = False
    control: ClassVar[bool] = True  # says nothing on the threat; the others are read against it
    restarts: ClassVar[int] = 1
    gradient_asks: ClassVar[int] = 0

    @property
    def asks(self) -> int:
        """One point a draw."""
        return self.draws

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter is out of range or does not fit the domain."""
        check_epsilon(self.epsilon, self.norm, domain)
        check_count("draws", self.draws)

    def start(self, jobs: Jobs) -> State:
        """Take the first draw."""
        return {"x": self._points(jobs, 0), "draw": torch.zeros_like(jobs.label)}

    def ask(self, jobs: Jobs, state: State) -> Tensor:
        """Ask for the labels of this draw."""
        del jobs
        return state["x"]

    def objective(self, jobs: Jobs, scores: Tensor) -> Tensor:
        """Noise follows no objective."""
        raise TypeError(
            f"{type(self).__name__} of {len(jobs)} jobs has no objective of {scores.shape}"
        )

    def tell(self, jobs: Jobs, state: State, answer: Answer) -> None:
        """Take the next draw."""
        del answer
        state["draw"] += 1
        for draw in sorted(set(state["draw"].tolist())):
            if draw < self.draws:
                some = state["draw"] == draw
                state["x"][some] = self._points(jobs.pick(some), draw)

    def _points(self, jobs: Jobs, draw: int) -> Tensor:
        x = self._noise(jobs, draw)
        if self.norm == "l2":
            x.mul_(per_job(self.epsilon / flat(x).norm(dim=1).clamp_min_(1e-12), x))
        return project(x.add_(jobs.origin), jobs.origin, self.norm, self.epsilon, jobs.domain)

    def _noise(self, jobs: Jobs, draw: int) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class UniformNoise(_Noise):
    """Noise uniform in [-epsilon, epsilon]; for L2, of length epsilon in a uniform box's direction.

    A control of our own definition: the size of an attack's perturbation without its direction.

    Attributes:
        epsilon: Size of the noise, in the domain's units.
        norm: "linf" or "l2".
        draws: Independent draws; the model is fooled if one of them fools it.
    """

    def _noise(self, jobs: Jobs, draw: int) -> Tensor:
        return (
            jobs.stream.uniform(jobs.words, jobs.domain.shape, draw=draw)
            .mul_(2)
            .sub_(1)
            .mul_(self.epsilon)
        )


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(_Noise):
    """Gaussian noise: of length epsilon (L2), or of deviation epsilon / 2, clipped (L-infinity).

    A control of our own definition, as `UniformNoise`; for L2 its direction is uniform on the
    sphere.

    Attributes:
        epsilon: Size of the noise, in the domain's units.
        norm: "linf" or "l2".
        draws: Independent draws; the model is fooled if one of them fools it.
    """

    def _noise(self, jobs: Jobs, draw: int) -> Tensor:
        return jobs.stream.normal(jobs.words, jobs.domain.shape, draw=draw).mul_(self.epsilon / 2)
