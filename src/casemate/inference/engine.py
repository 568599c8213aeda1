"""The engine: packs the jobs of any ask/tell attack into full batches and keeps the books.

It notes success and the best point of each job, drops finished jobs and cancels their siblings,
refills the batch, counts what is spent, restores the model exactly, and re-scores what it
returns after clipping and rounding. No parameter gradient is ever computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.access import (
    Answer,
    Budget,
    Counter,
    GradientAccess,
    LabelAccess,
    ScoreAccess,
    open_access,
)
from casemate.errors import BudgetExceededError
from casemate.guard import guarded
from casemate.inference.jobs import Jobs, State, join, pick
from casemate.inference.ledger import Ledger
from casemate.inference.norms import round_to_step, within
from casemate.inference.objectives import margin
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.crafted import Crafted
    from casemate.inference.jobs import Stepper
    from casemate.target import Target

__all__ = ["craft"]


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
        batch_size: Jobs at a time; bounds memory, does not change what is drawn.
        early_stop: Drop a sample once it fools the model. Off, an attack runs all its steps and
            the point with the best margin is kept. An attack that minimizes a distance always
            runs to its end.
        round_points: Put every returned point on the domain's grid (8 bits) and judge it there.
        budget: Bounds on the attacker's samples; what is found until then is returned.
        progress: Called with jobs done and jobs in all.

    Raises:
        UsageError: If a parameter does not fit the domain, or the target cannot give the access
            that the attack declares.
    """
    attack.check(data.domain)
    if goals is None:
        goals = torch.full((len(data),), -1, dtype=torch.int64)
    access = open_access(attack.threat.access, target, budget)
    run = _Run(attack, access, target.device, data, goals, seed, early_stop, round_points)
    with guarded(target.modules, [target.device]):
        run.loop(batch_size, progress)
        verified, spent = _rescore(run, target, batch_size)
    return run.ledger.close(verified, attacker=access.used, verifier=spent, exhausted=run.exhausted)


class _Run:
    """One call of `craft`: the queue, the batch and what was found."""

    def __init__(
        self,
        attack: Stepper,
        access: LabelAccess,
        device: torch.device,
        data: Dataset,
        goals: Tensor,
        seed: int,
        early_stop: bool,  # noqa: FBT001 - private, passed on from a keyword
        round_points: bool,  # noqa: FBT001 - likewise
    ) -> None:
        self.attack = attack
        self.access = access
        self.data = data
        self.goals = goals
        self.stream = stream(seed, f"{type(attack).__name__}/start")
        self.drops = early_stop and not attack.minimizes
        self.round_points = round_points and data.domain.step is not None
        self.ledger = Ledger.open(data, minimizes=attack.minimizes, asks=attack.asks)
        self.device = device
        self.next_job = 0
        self.exhausted = False

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
                answer = self._answer(jobs, points)
            except BudgetExceededError:
                self.exhausted = True
                self.ledger.merge(jobs, state)
                return
            done = self._note(jobs, state, points, answer)
            gave_up = self.attack.tell(jobs, state, answer)
            jobs.age.add_(1)
            if gave_up is not None:
                done = done | gave_up
            done |= jobs.age >= self.attack.asks
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
            position = numbers % len(self.data)
            wanted = ~self.ledger.solved[position] if self.drops else slice(None)
            position, restart = position[wanted], (numbers // len(self.data))[wanted]
            if len(position) == 0:
                continue
            new = self._jobs(position, restart)
            new_state = {**self.attack.start(new), **self.ledger.begin(new)}
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

    def _answer(self, jobs: Jobs, points: Tensor) -> Answer:
        """Evaluate the points through the declared access, with gradients where they are due."""
        access = self.access
        if not isinstance(access, GradientAccess):
            return (
                access.scores(points) if isinstance(access, ScoreAccess) else access.labels(points)
            )
        due = jobs.age < self.attack.gradient_asks
        if due.all():
            return access.gradient(points, lambda scores: self.attack.objective(jobs, scores))
        plain = access.scores(points[~due])
        if not due.any():
            zero = torch.zeros_like(points)
            return Answer(plain.labels, plain.scores, zero.new_zeros(len(points)), zero)
        some = jobs.pick(due)
        full = access.gradient(points[due], lambda scores: self.attack.objective(some, scores))
        return _interleave(due, full, plain, points)

    def _note(self, jobs: Jobs, state: State, points: Tensor, answer: Answer) -> Tensor:
        """Keep the best point of each job; return (b,) bool of jobs that need not go on."""
        hit = torch.where(jobs.targeted, answer.labels == jobs.goal, answer.labels != jobs.label)
        if answer.scores is not None:
            finite = answer.scores.isfinite().all(1)
            hit &= finite
            lead = margin(answer.scores.float(), jobs.label, jobs.goal)
            lead = torch.where(finite, lead, float("inf"))
        else:
            lead = torch.where(hit, -1.0, 1.0).to(points.dtype)
        kept = points
        if self.round_points and hit.any():
            kept, hit = self._on_grid(jobs, points, hit)
        self.ledger.note(jobs, state, kept, hit, lead, answer, self.attack)
        if not self.drops:
            return torch.zeros_like(hit)
        fooled = hit.nonzero().squeeze(1)
        self.ledger.solved[jobs.position[fooled].cpu()] = True
        return self.ledger.solved[jobs.position.cpu()].to(self.device)

    def _on_grid(self, jobs: Jobs, points: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
        """Judge the hits again after rounding: only what survives it is a success."""
        attack, some = self.attack, hit.nonzero().squeeze(1)
        rounded = round_to_step(
            points[some], jobs.origin[some], attack.norm, attack.epsilon, jobs.domain
        )
        labels = self.access.labels(rounded).labels
        chosen = jobs.pick(some)
        still = torch.where(chosen.targeted, labels == chosen.goal, labels != chosen.label)
        kept, hit = points.clone(), hit.clone()
        kept[some] = rounded
        hit[some] = still
        return kept, hit

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


def _rescore(run: _Run, target: Target, batch_size: int) -> tuple[Tensor, Counter]:
    """Return (n,) bool of samples whose returned point really fools the model, within epsilon.

    Points are put on the grid first where that was asked for, so that what is judged is what is
    returned.
    """
    data, attack, found = run.data, run.attack, run.ledger.adversarial
    judge = LabelAccess(target)
    verified = torch.zeros(len(data), dtype=torch.bool)
    for begin in range(0, len(data), batch_size):
        part = slice(begin, begin + batch_size)
        origin = data.batch(part)
        if run.round_points:
            found[part] = round_to_step(
                found[part], origin, attack.norm, attack.epsilon, data.domain
            )
        labels = judge.labels(_channels_last(found[part].to(target.device))).labels.cpu()
        goal, label = run.goals[part], data.targets[part]
        hit = torch.where(goal >= 0, labels == goal, labels != label)
        verified[part] = hit & within(found[part], origin, attack.norm, attack.epsilon, data.domain)
    return verified, judge.used
