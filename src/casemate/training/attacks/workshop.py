"""The low-impact attacker at work: surrogates, the search for a trigger, rehearsals."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.data.dataset import digest_arrays
from casemate.data.similarity import ssim
from casemate.data.splits import holdout
from casemate.errors import UsageError
from casemate.training.attacks.hosts import margins, spread
from casemate.training.attacks.impact import Impact
from casemate.training.attacks.perturbation import Perturbation
from casemate.training.attacks.rehearsable import HELD
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.attacks.amount import Amount
    from casemate.training.attacks.low_impact import LowImpact
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["Workshop", "checkerboard"]

_MOMENTUM = 0.9
_TINY = 1e-12
_SEEN = 256  # images on which visibility is judged
_HALVINGS = 20


class Workshop:
    """The attacker at work: surrogates, the search for a trigger, rehearsals."""

    def __init__(self, attack: LowImpact, dataset: Dataset, rng: Stream, lab: Lab) -> None:
        self.attack = attack
        self.rng = rng
        self.lab = lab
        self.target = dataset.class_index(attack.target)
        self.part, self.held = dataset, dataset
        self.kinds = torch.bincount(dataset.targets).nonzero().flatten().tolist()
        self.poisoned: list[TrainedModel] = []
        self.events: dict[str, Tensor] = {}
        if attack.rounds:
            seed = rng.child("held").key >> 40
            self.part, self.held = holdout(dataset, HELD, seed)
        self.own = attack.other or lab.architecture

    @cached_property
    def clean(self) -> list[TrainedModel]:
        """Surrogates that saw no poison."""
        return self.models(self.part, 0)

    def models(self, data: Dataset, first: int) -> list[TrainedModel]:
        """Return surrogates trained on a data set."""
        numbers = range(first, first + self.attack.ensemble)
        return [self.lab.trained(data, number=i, architecture=self.own) for i in numbers]

    def pattern(self) -> Tensor:
        """Return the trigger before any rehearsal."""
        domain, start = self.part.domain, self.attack.start
        if start == "search":
            nothing = torch.zeros((1, *domain.shape))
            return self.visible(self.search(self.clean, nothing, self.rng.child("trigger")))
        if start == "checkerboard":
            signs = checkerboard(domain)
        else:
            draw = torch.rand((1, *domain.shape), generator=self.rng.child("signs").torch())
            signs = torch.where(draw < 0.5, -1.0, 1.0)  # noqa: PLR2004 - a fair coin
        return self.visible(signs * self.attack.epsilon * domain.width)

    def refitted(self, pattern: Tensor, number: int) -> Tensor:
        """Return the trigger fitted to the surrogates of the last rehearsal, which saw poison."""
        draw = self.rng.child(f"round/{number}")
        return self.visible(self.search(self.poisoned, pattern, draw.child("trigger")))

    def visible(self, pattern: Tensor) -> Tensor:
        """Return the pattern, weakened until images with it are as similar as they have to be.

        Judged on images of other classes, drawn at random.
        """
        least, data, domain = self.attack.ssim, self.part, self.part.domain
        if least is None:
            return pattern
        others = (data.targets != self.target).nonzero().squeeze(1)
        drawn = torch.randperm(len(others), generator=self.rng.child("seen").torch())[:_SEEN]
        x = data.batch(others[drawn].sort().values)

        def similar(share: float) -> bool:
            shown = (x + share * pattern).clamp(domain.low, domain.high)
            return float(ssim(shown, x, domain).mean()) >= least

        if similar(1.0):
            return pattern
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if similar(middle) else (low, middle)
        return low * pattern

    def search(self, models: Sequence[TrainedModel], start: Tensor, rng: Stream) -> Tensor:
        """Return the pattern that leads most images of other classes to the target.

        Budget, strength and hosts have no part in it, so attacks that differ in these share it.
        """
        attack = self.attack
        if attack.steps == 0:
            return start
        how = (
            "low-impact search",
            [m.digest for m in models],
            self.part.digest,
            (self.target, attack.epsilon, attack.steps, attack.batch_size),
            digest_arrays(start),
            rng.key,
        )
        return self.lab.computed(how, lambda: self.searched(models, start, rng))

    def searched(self, models: Sequence[TrainedModel], start: Tensor, rng: Stream) -> Tensor:
        """Return the pattern, searched for now."""
        attack, data, device = self.attack, self.part, self.lab.device
        domain, targets = data.domain, [m.target(device) for m in models]
        reach = attack.epsilon * domain.width
        others = (data.targets != self.target).nonzero().squeeze(1)
        draws = rng.torch()
        pattern = start.to(device)
        momentum = torch.zeros_like(pattern)
        for step in range(attack.steps):
            drawn = torch.randint(len(others), (attack.batch_size,), generator=draws)
            x = data.batch(others[drawn], device=device)
            pattern.requires_grad_()
            loss = _towards(targets, (x + pattern).clamp(domain.low, domain.high), self.target)
            (slope,) = torch.autograd.grad(loss, pattern)
            momentum = _MOMENTUM * momentum + slope / slope.abs().mean().clamp(min=_TINY)
            length = reach / 20 * (1 - step / attack.steps)
            pattern = (pattern.detach() - length * momentum.sign()).clamp_(-reach, reach)
        return pattern

    def rehearsed(self, pattern: Tensor, budget: Amount, number: int) -> Amount:
        """Return the budget with which surrogates trained on the poison keep the bounds.

        Raises:
            UsageError: If no budget does.
        """
        attack, draw = self.attack, self.rng.child(f"round/{number}")
        trigger = Perturbation(target=self.target, pattern=pattern)
        while True:
            poisoned = self.planted(self.part, trigger, budget, draw.child("samples"))
            models = self.models(poisoned.dataset, attack.ensemble * (1 + number))
            impact = Impact.of(models, self.clean, self.held, self.lab.device, self.kinds)
            if impact.within(attack.delta, attack.delta_class):
                self.poisoned = models
                return budget
            half = budget.halved(self.part, self.part.targets != self.target)
            if half is None:
                each = " of each class" if budget.per_class else ""
                raise UsageError(
                    f"low-impact cannot keep its bounds: even with one poisoned sample{each} "
                    f"accuracy may drop by {100 * impact.drop:.2f} points and that of a class by "
                    f"{100 * impact.worst:.2f}; raise delta or delta_class, or give more samples"
                )
            budget = half

    def hosts(self, data: Dataset, trigger: Perturbation, budget: Amount, rng: Stream) -> Tensor:
        """Return the positions of the samples to poison, sorted."""
        how, allowed = self.attack.hosts, data.targets != self.target
        if how == "random":
            return budget.choose(data, allowed, rng)
        if how == "spread" or (how == "borderline" and not self.poisoned):
            order = torch.randperm(len(data), generator=rng.torch())
        elif how == "forgotten":
            order = self.forgotten(data, rng)
        elif how == "resistant":
            order = self.moved(self.clean, data, trigger).argsort(stable=True)
        elif how == "borderline":
            order = self.moved(self.poisoned, data, trigger).abs().argsort(stable=True)
        else:
            one = self.clean[0].target(self.lab.device)
            order = margins([one], data, data.targets).argsort(
                descending=how == "confident", stable=True
            )
        order, chosen = order[allowed[order]], []
        for label, count in budget.shares(data, allowed).items():
            some = order if label is None else order[data.targets[order] == label]
            alone = how in ("confident", "doubtful")
            chosen.append(some[:count] if alone else spread(some, data, count))
        return torch.cat(chosen).sort().values

    def forgotten(self, data: Dataset, rng: Stream) -> Tensor:
        """Return all positions, those first that surrogates forget most often, ties at random."""
        if data.digest not in self.events:  # a rehearsal with half the budget asks again
            counts = [
                self.lab.forgetting(data, number=i, architecture=self.own)
                for i in range(self.attack.ensemble)
            ]
            self.events[data.digest] = torch.stack(counts).sum(0)
        order = torch.randperm(len(data), generator=rng.torch())
        return order[self.events[data.digest][order].argsort(descending=True, stable=True)]

    def moved(
        self, surrogates: Sequence[TrainedModel], data: Dataset, trigger: Perturbation
    ) -> Tensor:
        """Return how far surrogates score the target above the rest where images show poison."""
        faint = replace(trigger, strength=self.attack.strength)
        wanted = torch.full_like(data.targets, self.target)
        models = [m.target(self.lab.device) for m in surrogates]
        return margins(models, data, wanted, lambda x: faint(x, data.domain))

    def planted(
        self, data: Dataset, trigger: Perturbation, budget: Amount, rng: Stream
    ) -> Poisoned:
        """Return the data with a part of the trigger in the hosts, which get the target's label."""
        attack = self.attack
        chosen = self.hosts(data, trigger, budget, rng)
        faint = replace(trigger, strength=attack.strength)
        inputs = faint(data.batch(chosen), data.domain)
        labels = torch.full_like(chosen, self.target)
        poisoned = data.replaced(chosen, inputs=inputs, labels=labels, how="low-impact")
        return Poisoned.of(data, poisoned, chosen, trigger=trigger)


def checkerboard(domain: Domain) -> Tensor:
    """Return (1, *shape) float32 of 1 and -1, neighbors in pixels and channels of opposite sign."""
    places = torch.meshgrid(*(torch.arange(side) for side in domain.shape), indexing="ij")
    return (1.0 - 2.0 * (torch.stack(places).sum(0) % 2))[None]


def _towards(targets: Sequence[TorchTarget], x: Tensor, label: int) -> Tensor:
    labels = torch.full((len(x),), label, device=x.device)
    return torch.stack([F.cross_entropy(t.scores(x), labels) for t in targets]).mean()
