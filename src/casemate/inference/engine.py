"""The engine: packs the jobs of any ask/tell attack into full batches and keeps the books.

It notes success and the best point of each job, drops finished jobs and cancels their siblings,
refills the batch, counts what is spent, restores the model exactly, and has what it returns
verified after clipping and rounding. No parameter gradient is ever computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.access import open_access
from casemate.errors import BudgetExceededError, UsageError
from casemate.guard import guarded
from casemate.inference.answers import ask, ask_plainly, judge, usable
from casemate.inference.attacks.bounded import check_count
from casemate.inference.batch_norm import light_batch_norm
from casemate.inference.jobs import Jobs, State, join, pick
from casemate.inference.ledger import Ledger
from casemate.inference.norms import round_to_step, within
from casemate.inference.verify import verify
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.access import Answer, Budget, LabelAccess
    from casemate.data.dataset import Dataset
    from casemate.inference.crafted import Crafted
    from casemate.inference.jobs import Stepper
    from casemate.target import Target

__all__ = ["check_grid", "craft"]

_LIMIT = "engine/limit"
_OUTSIDE = torch.finfo(torch.float32).max  # no margin is worse than that of a point out of bounds


def craft(
    attack: Stepper,
    target: Target,
    data: Dataset,
    *,
    goals: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 128,
    early_stop: bool = True,
    round_points: bool = False,
    queries: int | None = None,
    budget: Budget | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Crafted:
    """Attack every sample and return the best point found for each.

    Args:
        attack: The attack.
        target: The model that the attacker works against.
        data: Samples with their true labels.
        goals: (n,) int64 labels to reach, -1 or None for any wrong one.
        seed: Of the attack's random numbers.
        batch_size: Jobs at a time; bounds memory. It changes no result, unless a budget ends the
            run: samples that are attacked together get equally far.
        early_stop: Drop a sample once it fools the model; of several restarts the first that
            does so counts. Off, an attack runs all its steps and the point with the best margin
            is kept. An attack that minimizes a distance always runs to its end.
        round_points: Put every returned point on the domain's grid (8 bits) and judge it there.
        queries: Most points of a sample that the attacker may have evaluated, over all restarts:
            the first restart takes what it needs, the next one of what is left. Second looks at
            rounded successes are not counted. What is found until then is returned.
        budget: Bounds on the attacker's samples in all; what is found until then is returned. A
            batch that does not fit the budget is not begun.
        progress: Called with jobs done and jobs in all.

    Raises:
        UsageError: If a parameter does not fit the domain, or the target cannot give the access
            that the attack declares.
    """
    check_count("batch_size", batch_size)
    if queries is not None:
        check_count("queries", queries)
    attack.check(data.domain)
    if round_points:
        check_grid(data)
    run = _Run(
        attack,
        open_access(attack.threat.access, target, budget),
        target,
        data,
        _goals(goals, data, len(target.classes)),
        seed=seed,
        drops=early_stop and not attack.minimizes,
        round_points=round_points,
        queries=queries,
    )
    with guarded(target.modules, [target.device]):
        with light_batch_norm(target.modules):
            run.loop(batch_size, progress)
        fooled, broken, used = verify(
            run.ledger.adversarial,
            attack,
            target,
            data,
            run.goals,
            round_points=round_points,
            batch_size=batch_size,
        )
    return run.ledger.close(
        fooled, broken, attacker=run.access.used, verifier=used, exhausted=run.exhausted
    )


def check_grid(data: Dataset) -> None:
    """Raise `UsageError` where there is no grid to round to."""
    if data.domain.step is None:
        raise UsageError(
            f"{data.name}: round asks for values on the domain's grid, but its inputs may hold any "
            "value; leave round out or declare the step of the data"
        )


def _goals(goals: Tensor | None, data: Dataset, classes: int) -> Tensor:
    if goals is None:
        return torch.full((len(data),), -1, dtype=torch.int64)
    if goals.shape != (len(data),) or goals.dtype != torch.int64:
        raise UsageError(
            f"goals are {goals.dtype} of shape {tuple(goals.shape)}; give one int64 label for each "
            f"of the {len(data)} samples, -1 for any wrong one"
        )
    if len(goals) and not -1 <= int(goals.min()) <= int(goals.max()) < classes:
        raise UsageError(
            f"goals run from {int(goals.min())} to {int(goals.max())}, but they must lie between "
            f"-1 and {classes - 1}"
        )
    return goals


class _Run:
    """One call of `craft`: the queue, the batch and what was found."""

    def __init__(
        self,
        attack: Stepper,
        access: LabelAccess,
        target: Target,
        data: Dataset,
        goals: Tensor,
        *,
        seed: int,
        drops: bool,
        round_points: bool,
        queries: int | None,
    ) -> None:
        self.attack = attack
        self.access = access
        self.outputs = target.outputs
        self.device = target.device
        self.data = data
        self.goals = goals
        self.stream = stream(seed, f"{type(attack).__name__}/start")
        self.drops = drops
        self.round_points = round_points
        self.ledger = Ledger.open(data, attack, first_wins=drops)
        self.next_job = 0
        # how many points each restart of a sample may ask for
        asks = attack.asks
        left = asks * attack.restarts if queries is None else queries
        self.limits = [min(asks, max(0, left - r * asks)) for r in range(attack.restarts)]
        self.cut = torch.full((len(data),), self.limits[-1] == 0)
        self._over = False

    @property
    def exhausted(self) -> bool:
        """Whether a budget ended the attack on a sample before the attack was done with it."""
        open_ = self.cut & ~self.ledger.hit if self.drops else self.cut
        return self._over or bool(open_.any())

    @property
    def total(self) -> int:
        """Jobs in all: restart by restart, so that a later one may be cancelled."""
        return len(self.data) * self.attack.restarts

    def loop(self, batch_size: int, progress: Callable[[int, int], None] | None) -> None:
        """Run all jobs."""
        jobs, state = self._refill(None, {}, batch_size)
        while jobs is not None:
            points = _channels_last(self.attack.ask(jobs, state))
            try:
                answer = ask(self.access, self.attack, jobs, points, self.outputs)
                done = self._note(jobs, state, points, answer)
            except BudgetExceededError:
                self._over = True
                self.ledger.merge(jobs, state)
                return
            gave_up = self.attack.tell(jobs, state, usable(answer, state["ledger/not_finite"]))
            jobs.age.add_(1)
            if gave_up is not None:
                done = done | gave_up
            over = jobs.age >= state[_LIMIT]
            self.cut[jobs.position[over & (state[_LIMIT] < self.attack.asks)].cpu()] = True
            done |= over
            if done.any():
                jobs, state = self._retire(jobs, state, done, batch_size)
            if progress is not None:
                progress(self.next_job - (0 if jobs is None else len(jobs)), self.total)

    def _refill(
        self, jobs: Jobs | None, state: State, batch_size: int
    ) -> tuple[Jobs | None, State]:
        room = batch_size - (0 if jobs is None else len(jobs))
        while room > 0 and self.next_job < self.total:
            numbers = torch.arange(self.next_job, min(self.total, self.next_job + room))
            self.next_job += len(numbers)
            position, restart = numbers % len(self.data), numbers // len(self.data)
            limit = torch.tensor(self.limits)[restart]
            wanted = limit > 0
            if self.drops:
                wanted &= self.ledger.open_to(position, restart)
            position, restart, limit = position[wanted], restart[wanted], limit[wanted]
            if len(position) == 0:
                continue
            new = self._jobs(position, restart)
            new_state = {
                **self.attack.start(new),
                **self.ledger.begin(new),
                _LIMIT: limit.to(self.device),
            }
            jobs, state = (
                (new, new_state) if jobs is None else (jobs.join(new), join(state, new_state))
            )
            room = batch_size - len(jobs)
        return jobs, state

    def _jobs(self, position: Tensor, restart: Tensor) -> Jobs:
        put = self.device
        origin = _channels_last(self.data.batch(position, device=put))
        return Jobs(
            origin=origin,
            label=self.data.targets[position].to(put),
            goal=self.goals[position].to(put),
            position=position.to(put),
            words=torch.stack([self.data.rows[position], restart], dim=1).to(put),
            age=torch.zeros(len(position), dtype=torch.int64, device=put),
            domain=self.data.domain,
            stream=self.stream,
        )

    def _note(self, jobs: Jobs, state: State, points: Tensor, answer: Answer) -> Tensor:
        """Keep the best point of each job; return (b,) bool of jobs that need not go on."""
        hit, lead = judge(answer, jobs.label, jobs.goal)
        if hit.any():
            points, hit, lead = self._as_returned(jobs, points, hit, lead)
        self.ledger.note(jobs, state, points, hit, lead, answer)
        if not self.drops or not hit.any():
            return torch.zeros_like(hit)
        return self.ledger.claim(jobs, hit)

    def _as_returned(
        self, jobs: Jobs, points: Tensor, hit: Tensor, lead: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Judge the hits as they would be returned: rounded, and only inside epsilon."""
        attack = self.attack
        if not self.round_points:
            inside = within(points, jobs.origin, attack.norm, attack.epsilon, jobs.domain)
            return points, hit & inside, torch.where(inside, lead, _OUTSIDE)
        some = hit.nonzero().squeeze(1)
        origin = jobs.origin[some]
        kept = round_to_step(points[some], origin, attack.norm, attack.epsilon, jobs.domain)
        still, lead_there = judge(
            ask_plainly(self.access, _channels_last(kept)), jobs.label[some], jobs.goal[some]
        )
        still &= within(kept, origin, attack.norm, attack.epsilon, jobs.domain)
        return (
            points.index_copy(0, some, kept),
            hit.index_copy(0, some, still),
            lead.index_copy(0, some, lead_there),
        )

    def _retire(
        self, jobs: Jobs, state: State, done: Tensor, batch_size: int
    ) -> tuple[Jobs | None, State]:
        self.ledger.merge(jobs.pick(done), pick(state, done))
        if done.all():
            return self._refill(None, {}, batch_size)
        return self._refill(jobs.pick(~done), pick(state, ~done), batch_size)


def _channels_last(x: Tensor) -> Tensor:
    """Return images with channels last in memory, in which convolutions are faster."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x  # noqa: PLR2004
