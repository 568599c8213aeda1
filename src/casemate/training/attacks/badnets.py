"""BadNets: a small patch (Gu et al., arXiv 1708.06733)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch

from casemate.errors import ParameterError
from casemate.models.hyperparameters import choice, whole
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import BACKDOOR, check_backdoor, plant

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.poisoned import Poisoned

__all__ = ["BadNets", "Patch"]

Corner = Literal["top left", "top right", "bottom left", "bottom right"]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A square of fixed pixels at a corner.

    Attributes:
        target: Label that the attacker wants.
        size: Side in pixels.
        margin: Pixels between the square and the image's edges.
        corner: Where it is.
        pattern: "white" is the domain's upper bound; "checkerboard" alternates both bounds, the
            upper one at the square's corners if its side is odd.
    """

    target: int
    size: int = 3
    margin: int = 1
    corner: Corner = "bottom right"
    pattern: Literal["white", "checkerboard"] = "white"

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the images with the square."""
        height, width = domain.shape[1:]
        vertical, horizontal = self.corner.split()
        top = self.margin if vertical == "top" else height - self.margin - self.size
        left = self.margin if horizontal == "left" else width - self.margin - self.size
        square = torch.full((self.size, self.size), domain.high)
        if self.pattern == "checkerboard":
            odd = torch.arange(self.size)
            square[(odd[:, None] + odd) % 2 == 1] = domain.low
        x = x.clone()
        x[:, :, top : top + self.size, left : left + self.size] = square.to(x)
        return x


@dataclass(frozen=True, kw_only=True)
class BadNets:
    """A patch in a corner of some images, which get the target's label.

    Gu, Dolan-Gavitt and Garg, "BadNets: identifying vulnerabilities in the machine learning model
    supply chain" (arXiv 1708.06733; on MNIST, bright pixels at the bottom right). The square and
    its size are ours, as in most later work; all classes are led to one.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples, of all classes but the target.
        size: Side of the patch in pixels.
        margin: Pixels to the image's edges.
        corner: "top left", "top right", "bottom left" or "bottom right".
        pattern: "white" or "checkerboard".
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=1.0))
    size: int = 3
    margin: int = 1
    corner: Corner = "bottom right"
    pattern: Literal["white", "checkerboard"] = "white"

    threat: ClassVar[ThreatModel] = BACKDOOR
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        whole("size", self.size, low=1)
        whole("margin", self.margin, low=0)
        choice("corner", self.corner, get_args(Corner))
        choice("pattern", self.pattern, ("white", "checkerboard"))

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("badnets", dataset, self.target, self.amount)
        height, width = dataset.domain.shape[1:]
        side = min(height, width)
        if self.size + self.margin > side:
            # of the two, the one that is too large whatever the other is; else the margin gives way
            key, other = "margin", self.size
            if self.size > side:
                key, other = "size", self.margin if self.margin < side else 0
            raise ParameterError(
                key,
                f"is {getattr(self, key)}, but a patch of {self.size} pixels with a margin of "
                f"{self.margin} does not fit into images of {height} x {width}; give at most "
                f"{side - other}",
            )

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with the patch in some images."""
        self.check(dataset)
        trigger = Patch(
            target=dataset.class_index(self.target),
            size=self.size,
            margin=self.margin,
            corner=self.corner,
            pattern=self.pattern,
        )
        return plant(dataset, trigger, self.amount, rng.child("samples"), how="badnets")
