"""Box-constrained L-BFGS with a search over c (Szegedy et al., arXiv 1312.6199)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.inference import projected_lbfgs as solver
from casemate.inference.attacks.bounded import WHITE_BOX_EVASION, check_count, check_positive
from casemate.inference.norms import flat
from casemate.inference.objectives import event_log_probability

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer
    from casemate.data.domain import Domain
    from casemate.inference.jobs import Jobs, Norm, State
    from casemate.threats import ThreatModel

__all__ = ["LBFGS"]

_FACTOR = 10.0  # between values of c until one fails and one succeeds


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """The smallest perturbation by box-constrained L-BFGS and a search over c.

    Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199, section
    4.1): minimize c |r| + loss(x + r, goal) with x + r in the box, and search for the c at which
    the minimizer just reaches the goal. As in later implementations the distance is squared and
    c weighs the loss: minimize |r|^2 + c loss(x + r), with the least c whose minimizer succeeds
    found by growing or shrinking it tenfold and then halving its logarithm's interval. The nearest
    successful point of all that were evaluated is returned. The paper's attack has a goal; without
    one the loss here is minus the log-probability of all wrong labels together (ours).

    Attributes:
        initial_c: First weight of the loss, for distances in units of the domain's width.
        searches: Values of c that are tried.
        iterations: L-BFGS iterations at each c.
        memory: Pairs of steps and gradient differences that L-BFGS keeps.
        tolerance: An inner minimization ends when its objective falls by less than this fraction.
    """

    initial_c: float = 0.1
    searches: int = 10
    iterations: int = 60
    memory: int = 8
    tolerance: float = 1e-4

    threat: ClassVar[ThreatModel] = replace(
        WHITE_BOX_EVASION, budget="the smallest perturbation in L2 that the search finds"
    )
    revision: ClassVar[int] = 1
    minimizes: ClassVar[bool] = True
    restarts: ClassVar[int] = 1
    norm: ClassVar[Norm] = "l2"
    epsilon: ClassVar[float | None] = None

    @property
    def asks(self) -> int:
        """Every c starts at the clean input, and an iteration may backtrack."""
        return self.searches * (1 + self.iterations * solver.MAX_TRIALS)

    @property
    def gradient_asks(self) -> int:
        """Every point needs its gradient."""
        return self.asks

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if a parameter is out of range."""
        check_positive("initial_c", self.initial_c)
        check_positive("tolerance", self.tolerance)
        del domain  # any will do: there is no epsilon
        for name in ("searches", "iterations", "memory"):
            check_count(name, getattr(self, name))

    def start(self, jobs: Jobs) -> State:
        """Start the first minimization at the clean input."""
        c = torch.full_like(jobs.label, self.initial_c, dtype=jobs.origin.dtype)
        return {
            "c": c * jobs.domain.width**2,
            "low": torch.zeros_like(c),
            "high": torch.full_like(c, float("inf")),
            "searched": torch.zeros_like(jobs.label),
            "fooled": torch.zeros_like(jobs.label, dtype=torch.bool),
            **solver.start(jobs.origin, self.memory),
        }

    def ask(self, jobs: Jobs, state: State) -> Tensor:
        """Ask for the line search's next point."""
        del jobs
        return state["trial"]

    def objective(self, jobs: Jobs, scores: Tensor) -> Tensor:
        """Minus the loss; the distance is added where its gradient is known."""
        return event_log_probability(scores, jobs.label, jobs.goal)

    def tell(self, jobs: Jobs, state: State, answer: Answer) -> Tensor:
        """Iterate; where a minimization ends, judge it and go on with the next c."""
        assert answer.gradient is not None  # noqa: S101 - the declared access gives it
        assert answer.loss is not None  # noqa: S101 - likewise
        r = flat(state["trial"] - jobs.origin)
        value = (r * r).sum(1) - state["c"] * answer.loss
        gradient = 2 * r - state["c"][:, None] * flat(answer.gradient)
        hit = torch.where(jobs.targeted, answer.labels == jobs.goal, answer.labels != jobs.label)
        ended = solver.advance(
            state,
            value,
            gradient,
            low=jobs.domain.low,
            high=jobs.domain.high,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
        accepted = state["tried"] == 0
        state["fooled"] = torch.where(accepted, hit, state["fooled"])
        if not ended.any():
            return ended
        self._next_c(state, ended)
        solver.restart(state, ended, jobs.origin)
        return ended & (state["searched"] >= self.searches)

    def _next_c(self, state: State, ended: Tensor) -> None:
        """Bisect between the largest c that failed and the least that succeeded."""
        c, fooled = state["c"], state["fooled"]
        state["high"] = torch.where(ended & fooled, c.minimum(state["high"]), state["high"])
        state["low"] = torch.where(ended & ~fooled, c.maximum(state["low"]), state["low"])
        following = (state["low"] * state["high"]).sqrt()
        following = torch.where(state["high"].isinf(), _FACTOR * c, following)
        following = torch.where(state["low"] == 0, c / _FACTOR, following)
        state["c"] = torch.where(ended, following, c)
        state["searched"] += ended.long()
        state["fooled"] = fooled & ~ended
