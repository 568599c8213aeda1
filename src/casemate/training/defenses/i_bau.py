"""I-BAU: unlearn the worst common perturbation, by its implicit gradient (arXiv 2110.03735)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.models.hyperparameters import whole
from casemate.training.defenses.mending import Mender, Mending, clean_samples, floats
from casemate.training.loop import steady
from casemate.training.passes import DOUBLE, FORWARD, Passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Repaired
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["IBAU", "hypergradient"]


@dataclass(frozen=True, kw_only=True)
class IBAU(Mender):
    """A minimax game on clean samples: one perturbation for all, and weights that withstand it.

    Zeng, Chen, Park, Mao, Jin and Jia, "Adversarial unlearning of backdoors via implicit
    hypergradient", ICLR 2022 (arXiv 2110.03735, algorithm 1), with the parameters of the authors'
    code. In each round a perturbation is found in one pass over the clean samples, by ascent on
    the cross-entropy against what the network answers, with a penalty on its square, and held to
    its bound at the end; then the weights follow, batch by batch, the gradient of the loss with the
    perturbation, in which the perturbation counts as a function of the weights. As in the code, the
    network stays in evaluation mode, a batch is perturbed in a few samples only, and the implicit
    part is taken on the first batch.

    The perturbation is added to inputs in their domain, before preprocessing, and what leaves the
    domain is clamped, as in the authors' notebooks (their script leaves clamping and bound out).
    It is counted in widths of the domain, which are the authors' units, since their images are in
    [0, 1]. A pass over few samples has few steps: the authors have 5,000 samples and 50 steps;
    with fewer, smaller batches let the perturbation reach its bound. Ours: samples are in one
    random order; of each batch at least one is perturbed.

    Attributes:
        rounds: Of the game, at least 1.
        fixed_points: Iterations of the implicit gradient, at least 1 (K of the paper).
        batch_size: Samples a step, at least 1.
        share: Share of a batch that is perturbed in the weights' step, above 0 and up to 1.
        bound: Largest Euclidean norm of the perturbation, in widths of the domain, above 0.
        penalty: Weight of its square, at least 0.
        ascent: Learning rate of its ascent, above 0.
        implicit_step: Step length of the map whose fixed point it is taken for, above 0.
        learning_rate: Of the weights (Adam), above 0.
    """

    rounds: int = 5
    fixed_points: int = 5
    batch_size: int = 100
    share: float = 0.01
    bound: float = 10.0
    penalty: float = 0.001
    ascent: float = 10.0
    implicit_step: float = 0.1
    learning_rate: float = 0.001

    revision: ClassVar[int] = 2
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, low=1, high=100_000)
        whole("fixed_points", self.fixed_points, low=1, high=1000)
        whole("batch_size", self.batch_size, low=1)
        floats(self, "share", high=1, open_low=True)
        floats(self, "penalty")
        floats(self, "bound", "ascent", "implicit_step", "learning_rate", open_low=True)

    def passes(
        self,
        dataset: Dataset,  # noqa: ARG002 - it was trained on already
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: perturbations, and steps through them."""
        # outer loss, inner loss, the gradients of its slope
        through = 1 + DOUBLE + 2 * (self.fixed_points + 1)
        return (Passes(samples=self.rounds * len(clean or ()) * (1 + FORWARD + through)),)

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model after the game."""
        known = clean_samples("i-bau", model, clean)
        mending = Mending(name="i-bau", defense=self, model=model, rng=rng, lab=lab, clean=known)
        order = torch.randperm(len(known), generator=rng.child("order").torch())
        batches = torch.split(order, self.batch_size)
        chance = rng.child("perturbed").torch()
        optimizer = torch.optim.Adam(mending.module.parameters(), lr=self.learning_rate)
        norms = []
        with steady(mending.device, rng.key >> 1):
            for _ in range(self.rounds):
                perturbation = self._perturbation(mending, batches)
                norms.append(round(float(perturbation.norm()), 4))
                for batch in batches:
                    self._unlearn(mending, perturbation, batches[0], batch, optimizer, chance)
        return mending.done(notes={"norms": norms})

    def _perturbation(self, mending: Mending, batches: Sequence[Tensor]) -> Tensor:
        """Return the (1, *shape) perturbation that leads most samples astray."""
        found = torch.zeros((1, *mending.model.domain.shape), device=mending.device)
        for batch in batches:
            x, _ = _samples(mending, batch)
            with torch.no_grad():
                answers = mending.target.labels(x)
            found.requires_grad_()
            wrong = F.cross_entropy(_perturbed(mending, x, found), answers)
            gain = wrong - self.penalty * found.square().sum()
            (gradient,) = torch.autograd.grad(gain, found)
            found = found.detach().add(gradient, alpha=self.ascent)
        return found.mul(self.bound / found.norm().clamp(min=self.bound))

    def _unlearn(
        self,
        mending: Mending,
        perturbation: Tensor,
        first: Tensor,
        batch: Tensor,
        optimizer: torch.optim.Optimizer,
        chance: torch.Generator,
    ) -> None:
        """Take one step of the weights."""
        x0, labels0 = _samples(mending, first)
        x, labels = _samples(mending, batch)
        count = max(1, int(self.share * len(batch)))
        shown = torch.zeros((len(batch), *[1] * (x.ndim - 1)))
        shown[torch.randperm(len(batch), generator=chance)[:count]] = 1
        shown = shown.to(mending.device)

        def inner(p: Tensor) -> Tensor:
            wrong = F.cross_entropy(_perturbed(mending, x0, p), labels0)
            return self.penalty * p.square().sum() - wrong

        def outer(p: Tensor) -> Tensor:
            return F.cross_entropy(_perturbed(mending, x, shown * p), labels)

        weights = [p for p in mending.module.parameters() if p.requires_grad]
        gradients = hypergradient(
            inner,
            outer,
            perturbation,
            weights,
            step=self.implicit_step,
            iterations=self.fixed_points,
        )
        for parameter, gradient in zip(weights, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


def hypergradient(
    inner: Callable[[Tensor], Tensor],
    outer: Callable[[Tensor], Tensor],
    point: Tensor,
    weights: Sequence[Tensor],
    *,
    step: float,
    iterations: int,
) -> list[Tensor]:
    """Return the gradient of the outer loss where the point follows the weights.

    With the map T(p) = p - step * grad inner(p), whose fixed point is the minimum of the inner
    loss, v <- v dT/dp + d outer/dp is repeated from zero, and the gradient is
    d outer/dw + v dT/dw (Grazzi et al., "On the iteration complexity of hypergradient
    computation", ICML 2020, algorithm 1).

    Args:
        inner: Loss of a point, for the weights as they are.
        outer: The same.
        point: Where the inner loss is about minimal.
        weights: Both losses depend on; one that a loss does not depend on counts as zero there.
        step: Of the map.
        iterations: Of the fixed point.
    """
    point = point.detach().requires_grad_()
    direct, *explicit = torch.autograd.grad(outer(point), [point, *weights], materialize_grads=True)
    (slope,) = torch.autograd.grad(inner(point), point, create_graph=True)
    mapped = point - step * slope
    v = torch.zeros_like(point)
    for _ in range(iterations):
        (v,) = torch.autograd.grad(mapped, point, grad_outputs=v, retain_graph=True)
        v = v + direct
    implicit = torch.autograd.grad(mapped, weights, grad_outputs=v, materialize_grads=True)
    return [e + i for e, i in zip(explicit, implicit, strict=True)]


def _samples(mending: Mending, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs in their domain, and the labels."""
    x = mending.clean.batch(positions, device=mending.device)
    return x, mending.clean.targets[positions].to(mending.device)


def _perturbed(mending: Mending, x: Tensor, perturbation: Tensor) -> Tensor:
    """Return scores of inputs with a perturbation, in widths of the domain."""
    domain = mending.model.domain
    moved = torch.clamp(x + domain.width * perturbation, domain.low, domain.high)
    return mending.target.scores(moved)
