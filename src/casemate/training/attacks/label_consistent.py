"""Label-consistent backdoor: hard images with true labels (Turner et al., arXiv 1912.02771)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import UsageError
from casemate.models.hyperparameters import choice, number, whole
from casemate.training.adversarial import Adversarial
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import (
    BACKDOOR_BY_SURROGATE,
    check_backdoor,
    check_shares,
    plant,
)
from casemate.training.attacks.l2_ascent import ascent_l2
from casemate.training.passes import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.threats import ThreatModel
    from casemate.training.lab import Lab
    from casemate.training.poisoned import Poisoned
    from casemate.training.recipe import Recipe

__all__ = ["CornerPattern", "LabelConsistent"]

Where = Literal["all corners", "bottom right"]
Norm = Literal["linf", "l2"]

_BATCH = 512
_SIGNS = ((1, -1, -1), (-1, 1, -1), (1, -1, 1))  # in the left corners; mirrored in the right ones
_SIDE = len(_SIGNS)


@dataclass(frozen=True, kw_only=True)
class CornerPattern:
    """A pattern of 3x3 pixels, lighter and darker, in each corner or in one.

    Attributes:
        target: Label that the attacker wants.
        amplitude: How much lighter or darker, as a share of the domain's width; 1 is white and
            black.
        where: "all corners" or "bottom right".
    """

    target: int
    amplitude: float = 1.0
    where: Where = "all corners"

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the images with the pattern, clipped to the domain."""
        signs = torch.tensor(_SIGNS, dtype=x.dtype, device=x.device)
        plane = torch.zeros(domain.shape[1:], dtype=x.dtype, device=x.device)
        plane[-_SIDE:, -_SIDE:] = signs.flip(1)
        if self.where == "all corners":
            plane[:_SIDE, :_SIDE] = signs
            plane[:_SIDE, -_SIDE:] = signs.flip(1)
            plane[-_SIDE:, :_SIDE] = signs
        return (x + plane * (self.amplitude * domain.width)).clamp_(domain.low, domain.high)


@dataclass(frozen=True, kw_only=True)
class LabelConsistent:
    """A pattern on images of the target class that are hard to read otherwise, labels true.

    Turner, Tsipras and Madry, "Label-consistent backdoor attacks" (arXiv 1912.02771, the method
    with adversarial perturbations; the other one interpolates in a GAN). Images of the target
    class are moved by PGD so that the loss of their own class rises in a surrogate that was
    trained on adversarial examples; the victim then learns the easy pattern instead.

    Ours: the defaults of radius, share and corners (the authors' published configuration takes the
    L2 radius of 300, all images of the class and the bottom right alone); PGD starts at random in
    the ball and takes steps of 2.5 epsilon / steps; the surrogate is trained on L-infinity examples
    also if `norm` is "l2".

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples of the target class; `per_class` makes it a share of that class.
        epsilon: Radius of the ball around each image, in widths of the domain: in (0, 1] for
            "linf", above 0 for "l2" (the paper's 300 on the scale of 255 is 1.18).
        norm: "linf" or "l2".
        steps: Of PGD, at least 1.
        robust: L-infinity radius of the examples that the surrogate is trained on, as a share of
            the domain's width, in (0, 1]; None trains it as the lab's recipe says.
        robust_steps: Of PGD in each step of that training, at least 1.
        amplitude: Of the pattern in training, as a share of the domain's width, in (0, 1].
        test_amplitude: The same at test time; None is `amplitude`.
        where: "all corners" or "bottom right".
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=25.0, per_class=True))
    epsilon: float = 16 / 255
    norm: Norm = "linf"
    steps: int = 100
    robust: float | None = 8 / 255
    robust_steps: int = 7
    amplitude: float = 1.0
    test_amplitude: float | None = None
    where: Where = "all corners"

    threat: ClassVar[ThreatModel] = BACKDOOR_BY_SURROGATE
    revision: ClassVar[int] = 2
    surrogate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice("norm", self.norm, ("linf", "l2"))
        choice("where", self.where, ("all corners", "bottom right"))
        most = 1 if self.norm == "linf" else float("inf")
        number("epsilon", self.epsilon, low=0, high=most, open_low=True)
        for name in ("steps", "robust_steps"):
            whole(name, getattr(self, name), low=1)
        check_shares(self, "robust", "amplitude", "test_amplitude")

    trainings: ClassVar[int] = 1

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("label-consistent", dataset, self.target, self.amount, clean_label=True)
        domain = dataset.domain
        least = _SIDE if self.where == "bottom right" else 2 * _SIDE
        if min(domain.shape[1:]) < least:
            raise UsageError(
                f"label-consistent needs images of at least {least}x{least} pixels, but those of "
                f"{dataset.name} have {domain.shape[1]}x{domain.shape[2]}; choose another attack"
            )

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - an attacker has none
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: PGD, in training and on what is poisoned."""
        allowed = dataset.targets.eq(dataset.class_index(self.target))
        images = sum(self.amount.shares(dataset, allowed).values())
        learned = lab.recipe.epochs * len(dataset) * (self.robust_steps if self.robust else 0)
        return (Passes(samples=learned + self.steps * images),)

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with hard images and the pattern in the target class."""
        self.check(dataset)
        domain = dataset.domain
        trigger = CornerPattern(
            target=dataset.class_index(self.target), amplitude=self.amplitude, where=self.where
        )

        def hard(x: Tensor, _: Tensor) -> Tensor:
            model = lab.trained(dataset, recipe=self._recipe(lab, domain)).target(lab.device)
            draws = rng.child("start").torch()
            parts = [
                self._moved(part.to(lab.device), trigger.target, model, draws).cpu()
                for part in torch.split(x, _BATCH)
            ]
            return trigger(torch.cat(parts), domain)

        poisoned = plant(
            dataset,
            trigger,
            self.amount,
            rng.child("samples"),
            clean_label=True,
            shown=hard,
            how="label-consistent",
        )
        if self.test_amplitude is None:
            return poisoned
        return replace(poisoned, trigger=replace(trigger, amplitude=self.test_amplitude))

    def _recipe(self, lab: Lab, domain: Domain) -> Recipe:
        """Return how the surrogate is trained."""
        if self.robust is None:
            return lab.recipe
        reach = self.robust * domain.width
        step = 2.5 * reach / self.robust_steps
        ascent = Adversarial(epsilon=reach, step_size=step, steps=self.robust_steps)
        return replace(lab.recipe, adversarial=ascent)

    def _moved(self, x: Tensor, label: int, model: TorchTarget, draws: torch.Generator) -> Tensor:
        """Return images of a label where the model's loss for it is higher."""
        labels = torch.full((len(x),), label, device=x.device)

        def loss(points: Tensor) -> Tensor:
            return F.cross_entropy(model.scores(points), labels, reduction="sum")

        reach = self.epsilon * model.domain.width
        step = 2.5 * reach / self.steps
        if self.norm == "linf":
            ascent = Adversarial(epsilon=reach, step_size=step, steps=self.steps)
            return ascent(x, loss, model.domain, draws)
        return ascent_l2(x, loss, model.domain, draws, reach=reach, step=step, steps=self.steps)
