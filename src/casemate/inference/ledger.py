"""The engine's books: the best point of each job, and from them the best of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.inference.crafted import Crafted, spent
from casemate.inference.norms import distance, per_job, values

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer, Counter
    from casemate.data.dataset import Dataset
    from casemate.inference.jobs import Jobs, State, Stepper

__all__ = ["Ledger"]

_LATE = 0.9  # the last tenth of the steps: was the attack still getting somewhere?
_NOTABLE = 0.1  # of the whole fall of the margin, and at least half the average pace
_NOISE = 1e-4  # of the first margin: a smaller fall is rounding, not progress
_NONE = np.iinfo(np.int64).max  # a restart that there is not


@dataclass(eq=False, kw_only=True)
class Ledger:
    """What is known of each sample so far; per-job entries travel in the jobs' state.

    What is kept must not depend on the order in which jobs come and go, which depends on the
    batch size: ties between restarts go to the first, and where the first success counts, it is
    that of the first restart that succeeds.

    Attributes:
        attack: For its norm, its number of asks and whether it minimizes a distance.
        first_wins: Whether the first success ends a sample; else the best one counts.
        adversarial: (n, *shape) best points.
        lead: (n,) their margins.
        hit: (n,) bool, whether they fooled the model.
        quality: (n,) what they are compared by, the lower the better.
        restart: (n,) the restarts that they are from.
        winner: (n,) the first restart known to succeed.
        zero: (n,) bool, a first gradient was exactly zero.
        not_finite: (n,) bool, scores or gradients were not finite.
        still: (n,) bool, the margin was still falling at the end of every restart.
    """

    attack: Stepper
    first_wins: bool
    adversarial: Tensor
    lead: Tensor
    hit: Tensor
    quality: Tensor
    restart: Tensor
    winner: Tensor
    zero: Tensor
    not_finite: Tensor
    still: Tensor

    @classmethod
    def open(cls, data: Dataset, attack: Stepper, *, first_wins: bool) -> Ledger:
        """Return empty books; a sample never attacked keeps its clean input."""
        n = len(data)
        return cls(
            attack=attack,
            first_wins=first_wins,
            adversarial=data.batch(slice(None)).contiguous(),
            lead=torch.full((n,), float("inf")),
            hit=torch.zeros(n, dtype=torch.bool),
            quality=torch.full((n,), float("inf")),
            restart=torch.full((n,), _NONE),
            winner=torch.full((n,), _NONE),
            zero=torch.zeros(n, dtype=torch.bool),
            not_finite=torch.zeros(n, dtype=torch.bool),
            still=torch.ones(n, dtype=torch.bool),
        )

    def begin(self, jobs: Jobs) -> State:
        """Return the entries of new jobs."""
        inf = torch.full((len(jobs),), float("inf"), device=jobs.label.device)
        no = torch.zeros(len(jobs), dtype=torch.bool, device=jobs.label.device)
        return {
            "ledger/best": jobs.origin.clone(),
            "ledger/lead": inf,
            "ledger/far": inf.clone(),
            "ledger/hit": no,
            "ledger/first": inf.clone(),
            "ledger/low": inf.clone(),
            "ledger/late": inf.clone(),
            "ledger/zero": no.clone(),
            "ledger/not_finite": no.clone(),
        }

    def note(
        self, jobs: Jobs, state: State, points: Tensor, hit: Tensor, lead: Tensor, answer: Answer
    ) -> None:
        """Keep what is better than before.

        Args:
            jobs: The batch.
            state: Its state; the ledger's entries are changed.
            points: (b, *shape) as they would be returned.
            hit: (b,) bool, the point fools the model.
            lead: (b,) margins; infinite where scores were not finite.
            answer: What the model said.
        """
        had = state["ledger/hit"]
        if self.attack.minimizes:
            far = distance(points, jobs.origin, self.attack.norm)
            nearer = far < state["ledger/far"]
            better = torch.where(hit, ~had | nearer, ~had & (lead < state["ledger/lead"]))
            state["ledger/far"] = torch.where(better, far, state["ledger/far"])
        else:
            better = torch.where(hit == had, lead < state["ledger/lead"], hit)
        if better.all():
            state["ledger/best"].copy_(points)
        else:
            state["ledger/best"] = torch.where(
                per_job(better, points), points, state["ledger/best"]
            )
        state["ledger/hit"] = had | hit
        state["ledger/lead"] = torch.where(better, lead, state["ledger/lead"])
        self._watch(jobs, state, lead, answer)

    def _watch(self, jobs: Jobs, state: State, lead: Tensor, answer: Answer) -> None:
        """Note how the attack itself is doing."""
        first = jobs.age == 0
        state["ledger/first"] = torch.where(first, lead, state["ledger/first"])
        state["ledger/low"] = lead.minimum(state["ledger/low"])
        early = jobs.age < self._late
        state["ledger/late"] = torch.where(early, state["ledger/low"], state["ledger/late"])
        state["ledger/not_finite"] |= lead.isinf()
        if answer.gradient is not None:
            steepest = values(answer.gradient).abs().amax(1)
            state["ledger/not_finite"] |= ~steepest.isfinite()
            state["ledger/zero"] |= first & (steepest == 0)

    @property
    def _late(self) -> int:
        """The age at which the last tenth of the steps begins."""
        return int(_LATE * self.attack.asks)

    def claim(self, jobs: Jobs, hit: Tensor) -> Tensor:
        """Note the jobs of `hit`, (b,) bool, as successful; return (b,) bool of jobs to end.

        Later restarts of the same sample end; earlier ones go on, because their success would
        count before this one, as it would have in smaller batches.
        """
        position, restart = jobs.position.cpu(), jobs.words[:, 1].cpu()
        won = hit.cpu()
        self.winner.scatter_reduce_(0, position[won], restart[won], "amin")
        return (restart >= self.winner[position]).to(hit.device)

    def open_to(self, position: Tensor, restart: Tensor) -> Tensor:
        """Return (m,) bool: no earlier restart of the sample has succeeded."""
        return restart < self.winner[position]

    def merge(self, jobs: Jobs, state: State) -> None:
        """Take finished jobs into the samples' books."""
        position, restart = jobs.position.cpu(), jobs.words[:, 1].cpu()
        hit, lead, far = (state[f"ledger/{k}"].cpu() for k in ("hit", "lead", "far"))
        success = torch.zeros_like(lead) if self.first_wins else lead
        quality = torch.where(hit, far if self.attack.minimizes else success, lead)
        # each sample's best job of these comes first
        order = torch.from_numpy(
            np.lexsort((restart.numpy(), quality.numpy(), ~hit.numpy(), position.numpy()))
        )
        leads = torch.ones(len(order), dtype=torch.bool)
        leads[1:] = position[order][1:] != position[order][:-1]
        rows = order[leads]
        at = position[rows]
        tied = (quality[rows] == self.quality[at]) & (restart[rows] < self.restart[at])
        better = torch.where(
            hit[rows] == self.hit[at], (quality[rows] < self.quality[at]) | tied, hit[rows]
        )
        rows, at = rows[better], at[better]
        best = state["ledger/best"][rows.to(jobs.label.device)].cpu()
        self.adversarial[at] = best.contiguous()
        for mine, theirs in (
            (self.lead, lead),
            (self.hit, hit),
            (self.quality, quality),
            (self.restart, restart),
        ):
            mine[at] = theirs[rows]
        self._health(position, state)

    def _health(self, position: Tensor, state: State) -> None:
        first, late, low = (state[f"ledger/{k}"].cpu() for k in ("first", "late", "low"))
        fall, steps = first - low, self.attack.asks - 1
        still = torch.zeros_like(position, dtype=torch.bool)
        if steps > 1:
            pace = (steps + 1 - self._late) / steps
            notable = late - low > max(_NOTABLE, pace / 2) * fall
            still = notable & (fall > _NOISE * first.abs()) & late.isfinite()
        self.still[position[~still]] = False
        self.zero[position[state["ledger/zero"].cpu()]] = True
        self.not_finite[position[state["ledger/not_finite"].cpu()]] = True

    def close(
        self,
        fooled: Tensor,
        broken: Tensor,
        *,
        attacker: Counter,
        verifier: Counter,
        exhausted: bool,
    ) -> Crafted:
        """Return the books as a value, with the verifier's judgement.

        Args:
            fooled: (n,) bool, the returned point fools the model.
            broken: (n,) bool, the scores of the returned point are not finite.
            attacker: What the attacker used.
            verifier: What the verifier used.
            exhausted: Whether the attacker's budget ended the run.
        """
        return Crafted(
            adversarial=self.adversarial,
            success=fooled,
            noted=self.hit,
            margin=self.lead,
            zero_gradient=self.zero,
            not_finite=self.not_finite | broken,
            # the margin of a sample that was never evaluated is infinite
            unfinished=self.still & self.lead.isfinite() & ~fooled,
            spent=spent(attacker, verifier),
            exhausted=exhausted,
        )
