"""The engine's books: the best point of each job, and from them the best of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.inference.crafted import Crafted, spent
from casemate.inference.norms import distance, flat, per_job

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.access import Answer, Counter
    from casemate.data.dataset import Dataset
    from casemate.inference.jobs import Jobs, State, Stepper

__all__ = ["Ledger"]

_LATE = 0.9  # the last tenth of the steps: was the attack still getting somewhere?
_NOTABLE = 0.1  # of the whole fall of the margin
_FEW = 10  # below this many steps there is no last tenth


@dataclass(eq=False)
class Ledger:
    """What is known of each sample so far; per-job entries travel in the jobs' state.

    Attributes:
        solved: (n,) bool, some point fooled the model.
        adversarial: (n, *shape) best points.
        lead: (n,) best margins.
        far: (n,) distances of the best successful points.
        zero: (n,) bool, a first gradient was exactly zero.
        not_finite: (n,) bool, scores were not finite.
        unfinished: (n,) bool, the margin was still falling at the end of every restart.
        minimizes: Whether the shortest successful point is the best.
        asks: Most points a job asks for.
    """

    solved: Tensor
    adversarial: Tensor
    lead: Tensor
    far: Tensor
    zero: Tensor
    not_finite: Tensor
    unfinished: Tensor
    minimizes: bool
    asks: int

    @classmethod
    def open(cls, data: Dataset, *, minimizes: bool, asks: int) -> Ledger:
        """Return empty books; a sample never attacked keeps its clean input."""
        n = len(data)
        return cls(
            solved=torch.zeros(n, dtype=torch.bool),
            adversarial=data.batch(slice(None)).contiguous(),
            lead=torch.full((n,), float("inf")),
            far=torch.full((n,), float("inf")),
            zero=torch.zeros(n, dtype=torch.bool),
            not_finite=torch.zeros(n, dtype=torch.bool),
            unfinished=torch.ones(n, dtype=torch.bool),
            minimizes=minimizes,
            asks=asks,
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
            "ledger/late": inf.clone(),
            "ledger/zero": no.clone(),
            "ledger/not_finite": no.clone(),
        }

    def note(
        self,
        jobs: Jobs,
        state: State,
        points: Tensor,
        hit: Tensor,
        lead: Tensor,
        answer: Answer,
        attack: Stepper,
    ) -> None:
        """Keep what is better than before.

        Args:
            jobs: The batch.
            state: Its state; the ledger's entries are changed in place.
            points: (b, *shape) as they would be returned.
            hit: (b,) bool, the point fools the model.
            lead: (b,) margins.
            answer: What the model said.
            attack: The attack, for its norm.
        """
        had, best_lead = state["ledger/hit"], state["ledger/lead"]
        if self.minimizes:
            far = torch.where(hit, distance(points, jobs.origin, attack.norm), float("inf"))
            better = torch.where(hit, far < state["ledger/far"], ~had & (lead < best_lead))
            state["ledger/far"] = far.minimum(state["ledger/far"])
        else:
            better = torch.where(hit == had, lead < best_lead, hit)
        if better.all():
            state["ledger/best"].copy_(points)
        else:
            state["ledger/best"] = torch.where(
                per_job(better, points), points, state["ledger/best"]
            )
        state["ledger/hit"] = had | hit
        first = jobs.age == 0
        state["ledger/first"] = torch.where(first, lead, state["ledger/first"])
        state["ledger/lead"] = lead.minimum(best_lead)
        early = jobs.age < int(_LATE * self.asks)
        state["ledger/late"] = torch.where(early, state["ledger/lead"], state["ledger/late"])
        state["ledger/not_finite"] |= lead.isinf()
        if answer.gradient is not None and first.any():
            state["ledger/zero"] |= first & (flat(answer.gradient).abs().amax(1) == 0)

    def merge(self, jobs: Jobs, state: State) -> None:
        """Take finished jobs into the samples' books; the best of several restarts wins."""
        position = jobs.position.cpu()
        hit, lead, far = (state[f"ledger/{k}"].cpu() for k in ("hit", "lead", "far"))
        quality = torch.where(hit, far if self.minimizes else lead, lead)
        # best last: by quality, then by success, then by sample (each sort keeps the order before)
        order = quality.argsort(descending=True, stable=True)
        order = order[hit[order].long().argsort(stable=True)]
        order = order[position[order].argsort(stable=True)]
        sorted_position = position[order]
        last = torch.ones(len(order), dtype=torch.bool)
        last[:-1] = sorted_position[1:] != sorted_position[:-1]
        rows = order[last]
        at = position[rows]
        old_hit = self.far[at].isfinite()
        old_quality = (
            torch.where(old_hit, self.far[at], self.lead[at]) if self.minimizes else self.lead[at]
        )
        better = torch.where(hit[rows] == old_hit, quality[rows] < old_quality, hit[rows])
        rows, at = rows[better], at[better]
        self.adversarial[at] = state["ledger/best"][rows.to(jobs.label.device)].cpu().contiguous()
        self.lead[at] = lead[rows]
        # finite exactly where a point fooled the model
        self.far[at] = torch.where(hit[rows], far[rows] if self.minimizes else 0.0, float("inf"))
        self.solved[position[hit]] = True
        self._health(position, state)

    def _health(self, position: Tensor, state: State) -> None:
        first, late, lead = (state[f"ledger/{k}"].cpu() for k in ("first", "late", "lead"))
        fall = first - lead
        if self.asks > _FEW:
            still = (late - lead > _NOTABLE * fall) & (fall > 0) & late.isfinite()
        else:
            still = torch.zeros_like(position, dtype=torch.bool)
        self.unfinished[position[~still]] = False
        self.zero[position[state["ledger/zero"].cpu()]] = True
        self.not_finite[position[state["ledger/not_finite"].cpu()]] = True

    def close(
        self, success: Tensor, *, attacker: Counter, verifier: Counter, exhausted: bool
    ) -> Crafted:
        """Return the books as a value, with the verifier's judgement."""
        return Crafted(
            adversarial=self.adversarial,
            success=success,
            noted=self.solved,
            margin=self.lead,
            zero_gradient=self.zero,
            not_finite=self.not_finite,
            unfinished=self.unfinished & ~success,
            spent=spent(attacker, verifier),
            exhausted=exhausted,
        )
