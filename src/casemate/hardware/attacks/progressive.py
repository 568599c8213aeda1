"""The progressive bit search: one flip after another, each the best that gradients point to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.hardware.attacks.bit_gradients import best_flips
from casemate.hardware.attacks.constraint import allowed_bits
from casemate.hardware.attacks.outcome import Ended, Flip, Outcome, Spent
from casemate.hardware.attacks.readings import Judge
from casemate.hardware.attacks.standing import Standing
from casemate.hardware.parameters import check_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.objectives import Objective
    from casemate.hardware.attacks.readings import Aim, Goal
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Region

__all__ = ["ProgressiveSearch"]

_WIDER = 4  # times as many candidates when none of them helps


@dataclass(frozen=True, kw_only=True)
class ProgressiveSearch:
    """The progressive bit search of BFA.

    Rakin, He and Fan, "Bit-flip attack: crushing neural network with progressive bit search", ICCV
    2019 (arXiv 1903.12269), section 4. In each iteration the bits of every layer are ranked by the
    gradient (in-layer search), the best of each layer are tried on the attacker's inputs one by
    one, and the one with the largest true loss flips (cross-layer search).

    Ours: where no candidate raises the loss, the next ones of every layer are tried, up to `widest`
    a layer; the authors' code then flips more and more bits of one layer at once, without end. A
    layer here is one tensor. Bits that were flipped stay so unless `flip_back`; the authors' code
    keeps no record of them. A flip after which a score is no finite number is never taken.

    Attributes:
        objective: What flips make large.
        budget: Flips at most.
        candidates: How many of each layer are tried in an iteration; 1 in the authors' code.
        widest: How many of each layer at most where none of these helps.
        flip_back: Whether a bit may flip twice.
    """

    objective: Objective
    budget: int
    candidates: int = 1
    widest: int = 64
    flip_back: bool = False

    def __post_init__(self) -> None:
        check_whole("budget", self.budget)
        check_whole("candidates", self.candidates)
        check_whole("widest", self.widest)

    def run(
        self,
        deployed: Implementation,
        batch: Samples,
        regions: Sequence[Region],
        *,
        evaluation: Samples,
        goal: Goal,
        aim: Aim | None = None,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return the flips that the search finds.

        Args:
            deployed: Left as it is.
            batch: What the attacker has; all of it is used in each iteration.
            regions: Tensors whose bits may flip.
            evaluation: What the model is read on after each flip. It chooses no flip.
            goal: Whether such a reading is what the attacker wants.
            aim: What the reading's success is of.
            constraint: Which bits can flip; each that does is added to it.
        """
        model = Standing(deployed, batch.x, regions)
        judge = Judge(deployed.graph, model.values, evaluation, aim, first=model.first)
        hunt = _Hunt(self, model, batch.labels, constraint)
        flips: list[Flip] = []
        ended: Ended = "goal" if goal(judge.before) else "budget"
        while ended == "budget" and len(flips) < self.budget:
            number = hunt.best()
            if number is None:
                ended = "stuck"
                break
            hunt.take(number)
            reading = judge.read(model.values)
            flips.append(
                Flip(
                    fault=deployed.memory.fault(number),
                    number=number,
                    loss=hunt.loss,
                    batch_accuracy=hunt.accuracy,
                    reading=reading,
                )
            )
            if goal(reading):
                ended = "goal"
        return Outcome(
            before=judge.before,
            flips=tuple(flips),
            ended=ended,
            spent=Spent(forward=model.forward, backward=model.backward),
        )


class _Hunt:
    """One search as it goes on."""

    def __init__(
        self,
        search: ProgressiveSearch,
        model: Standing,
        labels: Tensor,
        constraint: Constraint | None,
    ) -> None:
        self._search, self._model, self._labels = search, model, labels
        self._constraint = constraint
        self._flipped: set[int] = set()
        self._allowed: dict[str, Tensor] = {}
        if constraint is not None:
            self._allowed = {
                r.name: allowed_bits(model.memory, r, constraint) for r in model.regions
            }
        self.loss = self._loss(model.scores)

    @property
    def accuracy(self) -> float:
        """Share of the inputs whose prediction is their label."""
        return float((self._model.scores.argmax(1) == self._labels).double().mean())

    def best(self) -> int | None:
        """Return the bit whose flip raises the loss most of those that are tried."""
        gradients = self._model.gradients(self._by_score())
        ranked = {r.name: self._ranked(r, gradients[r.name]) for r in self._model.regions}
        tried, count = 0, self._search.candidates
        best, most = None, self.loss
        while best is None and count > 0:
            numbers = [n for bits in ranked.values() for n in islice(bits, count)]
            if not numbers:
                return None
            for number in numbers:
                loss = self._loss(self._model.tried(number))
                if loss > most:
                    best, most = number, loss
            tried += count
            count = min(_WIDER * tried, self._search.widest) - tried
        return best

    def take(self, number: int) -> None:
        """Flip a bit for good."""
        self._model.flip(number)
        self._flipped.add(number)
        if self._constraint is not None:
            self._constraint.add(number)
        self.loss = self._loss(self._model.scores)

    def _ranked(self, region: Region, gradient: Tensor) -> Iterator[int]:
        """Yield the bits of a region that may flip, the most promising first."""
        start = self._model.memory.span(region.name)[0]
        words, allowed = self._model.words[region.name], self._allowed.get(region.name)
        count = 4 * self._search.candidates
        seen = set() if self._search.flip_back else set(self._flipped)
        while True:
            index, _ = best_flips(region.word, words, gradient.reshape(-1), count, allowed=allowed)
            fresh = [n for n in (index + start).tolist() if n not in seen]
            seen.update(fresh)
            yield from self._possible(fresh)
            if len(index) < count:
                return
            count *= 8

    def _possible(self, numbers: list[int]) -> list[int]:
        """Return those of the bits that can flip beside those that did, in their order."""
        if self._constraint is None or not numbers:
            return numbers
        bits = np.array(numbers, dtype=np.int64)
        kept: list[int] = bits[self._constraint.possible(bits)].tolist()
        return kept

    def _by_score(self) -> Tensor:
        """Return the objective's gradient with respect to the scores."""
        scores = self._model.scores.double().detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._search.objective(scores, self._labels), scores)
        return gradient

    def _loss(self, scores: Tensor) -> float:
        if not bool(scores.isfinite().all()):
            return -torch.inf
        with torch.no_grad():
            # in float64: a flip of a float32's exponent leads to scores near its largest number
            return float(self._search.objective(scores.double(), self._labels))
