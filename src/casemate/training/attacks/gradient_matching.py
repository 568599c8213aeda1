"""Gradient matching, "witches' brew" (Geiping et al., arXiv 2009.02276)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.data.dataset import digest_arrays
from casemate.models.hyperparameters import flag, number, whole
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.targeted import Aimed
from casemate.training.passes import DOUBLE, Passes
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.augmentation import Augmentation
    from casemate.training.lab import Lab

__all__ = ["GradientMatching", "Match"]

_DECIDE = ("epsilon", "steps", "step_size", "restarts", "revision")
_BATCH = 512  # poison images that share one gradient, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Aimed):
    """Images of the target class whose training gradient is that of the aim.

    Geiping, Fowl, Huang, Czaja, Taylor, Moeller and Goldstein, "Witches' brew: industrial scale
    data poisoning via gradient matching", ICLR 2021 (arXiv 2009.02276), with the parameters of the
    authors' code: 1 % of the data, 16 of 255, 250 steps, 8 restarts. A step of training on the
    poison then lowers the loss of one known input for the attacker's label, though each image keeps
    its true label. The cosine of both gradients with respect to the weights of a trained surrogate
    is maximized by Adam on the signs of the gradient; the restart with the best cosine is taken.

    Ours: the input is drawn among those that the surrogates read right, and surrogates are
    evaluated without dropout. The authors change the images before each step as the victim does
    in training; that is an option here, off by default. With several surrogates they divide the
    step by their number; here it stays.

    Attributes:
        target: Class that the known input is to get, by name or label; its images are poisoned.
        source: Class of that input, by name or label; None draws from all others.
        amount: How many samples of the target class; without `per_class` a share is of the set.
        epsilon: Most that a value changes, as a share of the domain's width, in (0, 1].
        steps: Of Adam, at least 1.
        step_size: Of the first steps, as a share of the domain's width, above 0; a tenth of it
            after 3/8, 5/8 and 7/8 of the steps each. The authors' 0.1 counts in deviations of the
            data, a quarter of the width on CIFAR-10.
        restarts: From random changes, at least 1.
        ensemble: Surrogates whose cosines are averaged, at least 1.
        augment: Whether images are augmented as the lab's recipe says, anew at each step.
    """

    target: str | int = 0
    source: str | int | None = None
    amount: Amount = field(default_factory=lambda: Amount(percent=1.0))
    epsilon: float = 16 / 255
    steps: int = 250
    step_size: float = 0.025
    restarts: int = 8
    ensemble: int = 1
    augment: bool = False

    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        number("epsilon", self.epsilon, low=0, high=1, open_low=True)
        number("step_size", self.step_size, low=0, open_low=True)
        for name in ("steps", "restarts", "ensemble"):
            whole(name, getattr(self, name), low=1)
        flag("augment", self.augment)

    @property
    def trainings(self) -> int:
        """How many surrogates it trains."""
        return self.ensemble

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - an attacker has none
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: gradients of gradients."""
        gradients = self.restarts * self.steps * self.ensemble * self.images(dataset)
        return (Passes(samples=DOUBLE * gradients),)

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with some images of the target class changed, their labels true."""
        wish = self.wish(dataset, lab.known)
        allowed = dataset.targets == wish.target
        chosen = self.amount.choose(dataset, allowed, rng.child("samples"))
        surrogates = [lab.trained(dataset, number=i) for i in range(self.ensemble)]
        models = [s.target(lab.device) for s in surrogates]
        aim = wish.aim(models, rng.child("aim"))
        assert aim.inputs is not None  # noqa: S101 - a wish aims at one
        goal = wish.known.batch(aim.inputs, device=lab.device)
        clean = dataset.batch(chosen, device=lab.device)
        changes = lab.recipe.augmentation if self.augment else None

        def best() -> Tensor:
            matches = [Match(m, goal, wish.target) for m in models]
            return self._best(clean, matches, changes, rng)

        how = (
            "gradient-matching",
            {name: getattr(self, name) for name in _DECIDE},
            [s.digest for s in surrogates],
            changes,
            wish.target,
            digest_arrays(clean, goal),
            rng.key,
        )
        brewed = lab.computed(how, best)
        poisoned = dataset.replaced(chosen, inputs=brewed, how="gradient-matching")
        return Poisoned.of(dataset, poisoned, chosen, aim=aim)

    def _best(
        self, clean: Tensor, matches: list[Match], changes: Augmentation | None, rng: Stream
    ) -> Tensor:
        """Return the images of the best restart."""
        best, least = clean, float("inf")
        for restart in range(self.restarts):
            draws = rng.child(f"restart/{restart}").torch()
            found = self._brew(clean, matches, changes, draws)
            mismatch = _mismatch(found, matches)
            if mismatch < least:
                best, least = found, mismatch
        return best

    def _brew(
        self,
        clean: Tensor,
        matches: list[Match],
        changes: Augmentation | None,
        draws: torch.Generator,
    ) -> Tensor:
        """Return images after one restart."""
        domain = matches[0].model.domain
        reach = self.epsilon * domain.width
        low = (clean - reach).clamp_(min=domain.low)
        high = (clean + reach).clamp_(max=domain.high)
        noise = torch.randn(clean.shape, generator=draws).to(clean.device)
        point = (clean + noise * reach).clamp_(low, high)
        # only its bookkeeping is used: gradients come from below
        optimizer = torch.optim.Adam([point], lr=self.step_size * domain.width)
        falls = [self.steps * eighths // 8 for eighths in (3, 5, 7)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
        for _ in range(self.steps):
            signs = []
            for part in torch.split(point, _BATCH):
                piece = part.detach().requires_grad_(True)
                shown = piece if changes is None else changes(piece, domain, draws)
                total = torch.stack([m.mismatch(shown) for m in matches]).sum()
                signs.append(torch.autograd.grad(total, piece)[0].sign_())
            point.grad = torch.cat(signs)
            optimizer.step()
            schedule.step()
            point.clamp_(low, high)
        return point.detach()


class Match:
    """How far the gradient of training on images is from the one that the attacker wants.

    Its model's weights are made to take gradients.
    """

    def __init__(self, model: TorchTarget, goal: Tensor, label: int) -> None:
        self.model = model
        self.label = label
        self.weights = [p.requires_grad_(True) for p in model.module.parameters()]
        self.wanted = self.gradient(goal).detach()

    def gradient(self, x: Tensor) -> Tensor:
        """Return the loss's gradient with respect to all weights, (w,), differentiable in x."""
        labels = torch.full((len(x),), self.label, device=x.device)
        loss = F.cross_entropy(self.model.scores(x), labels)
        parts = torch.autograd.grad(
            loss, self.weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([p.flatten() for p in parts])

    def mismatch(self, x: Tensor) -> Tensor:
        """Return 1 - the cosine of both gradients."""
        found = self.gradient(x)
        norms: Tensor = (found.norm() * self.wanted.norm()).clamp(min=1e-30)
        return (found @ self.wanted).div(norms).neg().add(1)


def _mismatch(x: Tensor, matches: list[Match]) -> float:
    """Return the mean over models and batches of images."""
    parts = [float(m.mismatch(part).detach()) for part in torch.split(x, _BATCH) for m in matches]
    return sum(parts) / len(parts)
