"""The smallest trigger that leads all samples to a class, for all classes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.target import TorchTarget

__all__ = ["Reversal", "Triggers"]

_AT_ONCE = 2048  # images: what one forward pass may take
_STOP = 5  # times the patience, as in the authors' code
_EDGE = 1e-7  # keeps the inverse of tanh finite


@dataclass(frozen=True, kw_only=True, eq=False)
class Triggers:
    """One trigger a class: (1 - mask) x + mask pattern.

    Attributes:
        masks: (classes, 1, height, width) or (classes, features), in [0, 1], on the CPU.
        patterns: (classes, *shape) in the domain, on the CPU.
        success: (classes,) share of samples that each led to its class; below what was asked for
            where none did, and then the trigger is the last one.
    """

    masks: Tensor
    patterns: Tensor
    success: Tensor

    @property
    def norms(self) -> Tensor:
        """(classes,) L1 norms of the masks: pixels that a trigger takes."""
        return self.masks.flatten(1).sum(1)

    def show(self, x: Tensor, label: int) -> Tensor:
        """Return (b, *shape) inputs with a class's trigger."""
        return torch.lerp(x, self.patterns[label].to(x), self.masks[label].to(x))


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """How triggers are rebuilt: cross-entropy plus a cost times the mask's L1 norm.

    Wang et al., IEEE S&P 2019, and the authors' code: masks and patterns are tanh of
    free values, which Adam (betas 0.5 and 0.9) moves from random ones. The cost starts at zero; it
    is set after `patience` steps of success, then raised or lowered after as many in a row. A
    class's result is the smallest mask of a step that succeeded. All samples are led to the class,
    its own as well.

    Attributes: as of `NeuralCleanse`; `rate` is its `reversal_rate`.
    """

    steps: int
    batches: int
    batch_size: int
    rate: float
    initial_cost: float
    multiplier: float
    success: float
    patience: int

    def __call__(self, target: TorchTarget, data: Dataset, rng: Stream) -> Triggers:
        """Return a trigger for each class; the target is in evaluation mode and stays as it is."""
        classes = len(target.classes)
        together = max(1, _AT_ONCE // self.batch_size)
        parts = [
            self._some(target, data, torch.arange(classes)[first : first + together], rng)
            for first in range(0, classes, together)
        ]
        return Triggers(
            masks=torch.cat([p.masks for p in parts]),
            patterns=torch.cat([p.patterns for p in parts]),
            success=torch.cat([p.success for p in parts]),
        )

    def _some(self, target: TorchTarget, data: Dataset, labels: Tensor, rng: Stream) -> Triggers:
        """Return the triggers of some classes."""
        rng = rng.child(str(int(labels[0])))
        generator = rng.child("samples").torch()
        search = _Search(self, target, labels, rng.child("start").torch())
        for _ in range(self.steps):
            active = search.active.nonzero().flatten()
            if not len(active):
                break
            hits = torch.zeros(len(active))
            size = torch.zeros(len(active))
            for _ in range(self.batches):
                chosen = torch.randint(len(data), (self.batch_size,), generator=generator)
                now, area = search.step(data.batch(chosen, device=target.device), active)
                hits += now
                size += area
            search.judge(active, hits / self.batches, size / self.batches)
        return search.found()


class _Search:
    """Triggers of some classes under way; what judges them is on the CPU."""

    def __init__(
        self, how: Reversal, target: TorchTarget, labels: Tensor, generator: torch.Generator
    ) -> None:
        self.how = how
        self.target = target
        self.labels = labels.to(target.device)
        domain, count = target.domain, len(labels)
        area = (1, *domain.shape[1:]) if domain.is_image else domain.shape
        self.free = [
            _free(torch.rand((count, *shape), generator=generator)).to(target.device)
            for shape in (area, domain.shape)
        ]
        self.optimizer = torch.optim.Adam(
            [f.requires_grad_() for f in self.free], lr=how.rate, betas=(0.5, 0.9)
        )
        self.costs = torch.zeros(count)
        self.ready, self.ups, self.downs, self.idle = torch.zeros(4, count, dtype=torch.int64)
        self.raised, self.lowered = torch.zeros(2, count, dtype=torch.bool)
        self.active = torch.ones(count, dtype=torch.bool)
        self.smallest = torch.full((count,), torch.inf)
        self.success = torch.zeros(count)
        self.best = [_bounded(f.detach()) for f in self.free]

    def step(self, x: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Move the triggers of some classes once; return their share of hits and their size."""
        where = active.to(x.device)
        masks, patterns = (_bounded(f[where]) for f in self.free)
        shown = torch.lerp(x, _in_domain(patterns, self.target.domain)[:, None], masks[:, None])
        labels = self.labels[where].repeat_interleave(len(x))
        scores = self.target.scores(shown.flatten(0, 1))
        wrong = F.cross_entropy(scores, labels, reduction="sum") / len(x)
        sizes = masks.flatten(1).sum(1)
        loss = wrong + (self.costs[active].to(x.device) * sizes).sum()
        # the triggers' gradients only: the network stays as it is
        for free, gradient in zip(self.free, torch.autograd.grad(loss, self.free), strict=True):
            free.grad = gradient
        self.optimizer.step()
        hits = (scores.detach().argmax(1) == labels).view(len(active), -1).float().mean(1)
        return hits.cpu(), sizes.detach().cpu()

    def judge(self, active: Tensor, hits: Tensor, sizes: Tensor) -> None:
        """Keep what is best so far, and set the costs, after a step of the schedule."""
        patience = self.how.patience
        good = torch.zeros_like(self.active)
        good[active] = hits >= self.how.success
        smaller = good.clone()
        smaller[active] &= sizes < self.smallest[active]
        none_yet = self.smallest.isinf() & self.active
        kept = smaller | none_yet  # until one succeeds, the last one stands
        for best, free in zip(self.best, self.free, strict=True):
            best[kept] = _bounded(free.detach()[kept])
        self.success[active] = torch.where(kept[active], hits, self.success[active])
        self.smallest[active] = torch.where(smaller[active], sizes, self.smallest[active])
        self.idle = torch.where(smaller | self.smallest.isinf(), 0, self.idle + 1)
        self.active &= ~(self.raised & self.lowered & (self.idle >= _STOP * patience))

        self.ready = torch.where(good & (self.costs == 0), self.ready + 1, 0)
        begun = self.ready >= patience
        self.costs[begun] = self.how.initial_cost
        for values in (self.ready, self.ups, self.downs, self.raised, self.lowered):
            values[begun] = 0
        self.ups = torch.where(good, self.ups + 1, 0)
        self.downs = torch.where(good, 0, self.downs + 1)
        up, down = self.ups >= patience, self.downs >= patience
        self.costs[up] *= self.how.multiplier
        self.costs[down] /= self.how.multiplier**1.5
        self.ups[up] = 0
        self.downs[down] = 0
        self.raised |= up
        self.lowered |= down

    def found(self) -> Triggers:
        """Return the best triggers."""
        masks, patterns = (b.cpu() for b in self.best)
        patterns = _in_domain(patterns, self.target.domain)
        return Triggers(masks=masks, patterns=patterns, success=self.success)


def _free(values: Tensor) -> Tensor:
    """Return the free values whose `_bounded` are these, in [0, 1]."""
    return torch.atanh((values - 0.5) * (2 - _EDGE))


def _bounded(free: Tensor) -> Tensor:
    return torch.tanh(free) / (2 - _EDGE) + 0.5


def _in_domain(values: Tensor, domain: Domain) -> Tensor:
    return values * domain.width + domain.low
