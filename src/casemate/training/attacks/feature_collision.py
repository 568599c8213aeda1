"""Feature collision, "poison frogs" (Shafahi et al., arXiv 1804.00792)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.models.hyperparameters import number, whole
from casemate.models.layers import head, listening
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.targeted import Aimed
from casemate.training.passes import Passes
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.models.layers import Layer
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.lab import Lab

__all__ = ["FeatureCollision"]

_BATCH = 512
_LEVELS = 255  # the authors' images run from 0 to 255, and so does their beta's unit


@dataclass(frozen=True, kw_only=True)
class FeatureCollision(Aimed):
    """Images of the target class that lie on one known input in feature space.

    Shafahi, Huang, Najibi, Suciu, Studer, Dumitras and Goldstein, "Poison frogs! Targeted
    clean-label poisoning attacks on neural networks", NeurIPS 2018 (arXiv 1804.00792). Algorithm 1
    minimizes |f(x) - f(t)|^2 + beta |x - b|^2 (equation 1) by forward-backward splitting, from a
    base image b of the target class towards the known input t, where f is the input of a
    surrogate's last layer; b keeps its true label. The paper's beta is 0.25 (features / values of
    an input)^2 (equation 2) where, in the authors' code, the domain's width is 255. Against a
    victim whose layers are all trained (section 4), the base is (1 - opacity) b + opacity t: with
    50 images, opacity 0.3. Their victim starts from the surrogate's weights; one that starts from
    others does not share its features. Their code follows the gradient of the distance in feature
    space where the paper, and this, follows that of its square.

    Ours: steps are in widths of the domain; a step that does not lower an image's objective is
    undone and that image's next one halved, much as the authors' code does for its one image; t is
    drawn among the known inputs that the surrogate reads right.

    Attributes:
        target: Class that the known input is to get, by name or label; its images are poisoned.
        source: Class of that input, by name or label; None draws from all others.
        amount: How many samples of the target class.
        opacity: Share of the known input in the bases, in [0, 1); 0 is no watermark.
        beta: Pull towards the base, before it is scaled as above; at least 0. Small images have
            less room: with LeNet on MNIST features meet at 0.001, and on digits of 8x8 pixels at
            0.0001.
        steps: At most, for each image; at least 1.
        step_size: Of the first step, above 0.
    """

    target: str | int = 0
    source: str | int | None = None
    amount: Amount = field(default_factory=lambda: Amount(count=50))
    opacity: float = 0.3
    beta: float = 0.25
    steps: int = 200
    step_size: float = 1.0

    revision: ClassVar[int] = 2
    trainings: ClassVar[int] = 1

    def __post_init__(self) -> None:
        number("opacity", self.opacity, low=0, high=0.999)
        number("beta", self.beta, low=0)
        number("step_size", self.step_size, low=0, open_low=True)
        whole("steps", self.steps, low=1)

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - an attacker has none
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: the steps towards the known input."""
        return (Passes(samples=(1 + self.steps) * self.images(dataset)),)

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with some images of the target class changed, their labels true."""
        wish = self.wish(dataset, lab.known)
        allowed = dataset.targets == wish.target
        chosen = self.amount.choose(dataset, allowed, rng.child("samples"))
        model = lab.trained(dataset).target(lab.device)
        aim = wish.aim([model], rng.child("aim"))
        assert aim.inputs is not None  # noqa: S101 - a wish aims at one
        goal = wish.known.batch(aim.inputs, device=lab.device)
        collision = _Collision(model, goal, self.beta)
        parts = []
        for part in torch.split(chosen, _BATCH):
            clean = dataset.batch(part, device=lab.device)
            base = (1 - self.opacity) * clean + self.opacity * goal
            parts.append(self._collide(base, collision).cpu())
        poisoned = dataset.replaced(chosen, inputs=torch.cat(parts), how="feature-collision")
        return Poisoned.of(dataset, poisoned, chosen, aim=aim)

    def _collide(self, base: Tensor, collision: _Collision) -> Tensor:
        """Return images whose objective only fell (algorithm 1)."""
        each = (-1,) + (1,) * (base.ndim - 1)
        rate = torch.full((len(base),), self.step_size, device=base.device).view(each)
        point = base
        value, slope = collision(point, base)
        for _ in range(self.steps):
            moved = collision.step(point, slope, base, rate)
            new_value, new_slope = collision(moved, base)
            better = (new_value < value).view(each)
            point = torch.where(better, moved, point)
            slope = torch.where(better, new_slope, slope)
            value = torch.where(better.flatten(), new_value, value)
            rate = torch.where(better, rate, rate / 2)
        return point


class _Collision:
    """The objective of images, and the step that lowers it."""

    def __init__(self, model: TorchTarget, goal: Tensor, beta: float) -> None:
        self.model = model
        self.last: Layer = head(model)
        self.domain: Domain = model.domain
        with torch.no_grad():
            self.wanted = self.features(goal)
        self.pull = beta * (_LEVELS * self.wanted.shape[1] / self.domain.size) ** 2

    def features(self, x: Tensor) -> Tensor:
        """Return (b, d) inputs of the last layer."""
        found: list[Tensor] = []
        with listening(self.last.module, lambda into, _: found.append(into.flatten(1))):
            self.model.scores(x)
        return found[0]

    def __call__(self, x: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Return (b,) objectives and the gradient of their first term in widths of the domain."""
        points = x.detach().requires_grad_(True)
        with torch.enable_grad():
            apart = (self.features(points) - self.wanted).square().sum(1)
            (slope,) = torch.autograd.grad(apart.sum(), points)
        moved = ((x - base) / self.domain.width).flatten(1).square().sum(1)
        return apart.detach() + self.pull * moved, slope * self.domain.width

    def step(self, x: Tensor, slope: Tensor, base: Tensor, rate: Tensor) -> Tensor:
        """Return points after the forward step and the backward one, towards the base.

        The latter is the proximal point of rate pull |x - base|^2; the algorithm leaves the 2 to
        beta.
        """
        forward = x - rate * slope * self.domain.width
        pull = 2 * rate * self.pull
        return ((forward + pull * base) / (1 + pull)).clamp(self.domain.low, self.domain.high)
