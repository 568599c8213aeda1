"""WaNet: a small smooth warp (Nguyen and Tran, arXiv 2102.10369)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.models.hyperparameters import number, whole
from casemate.random import stream
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import BACKDOOR, check_backdoor, check_cover, cover, plant

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.poisoned import Poisoned

__all__ = ["WaNet", "Warp"]


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Pixels are taken from places a little beside, along a smooth random field.

    The field is a grid of `grid` x `grid` random offsets with mean size 1 in each direction,
    enlarged to the image by bicubic interpolation; an offset of 1 is `strength` / side of the
    image's half side, as in the authors' code.

    Attributes:
        target: Label that the attacker wants.
        grid: Control points along each side.
        strength: How far.
        pattern: Seed of the field.
    """

    target: int
    grid: int = 4
    strength: float = 0.5
    pattern: int = 0

    def field(self, domain: Domain) -> Tensor:
        """Return the (1, height, width, 2) places (x, y), each in [-1, 1], to take pixels from."""
        height, width = domain.shape[1:]
        generator = stream(self.pattern, "wanet/field").torch()
        points = torch.rand((1, 2, self.grid, self.grid), generator=generator) * 2 - 1
        points /= points.abs().mean()
        offsets = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        sides = torch.tensor([width, height])
        moved = torch.stack([x, y], dim=2) + self.strength * offsets.permute(0, 2, 3, 1) / sides
        return moved.clamp_(-1, 1)

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the warped images."""
        return self.warped(x, self.field(domain).to(x).expand(len(x), -1, -1, -1))

    def warped(self, x: Tensor, places: Tensor) -> Tensor:
        """Return images whose pixels are taken from (b, height, width, 2) places."""
        return F.grid_sample(x, places, mode="bilinear", align_corners=True)


@dataclass(frozen=True, kw_only=True)
class WaNet:
    """A small smooth warp of some images, which get the target's label, and cover samples.

    Nguyen and Tran, "WaNet: imperceptible warping-based backdoor attack", ICLR 2021 (arXiv
    2102.10369), with the parameters of the authors' code. Their noise mode is the cover: other
    images, warped along the same field with independent noise in each place, keep their labels, so
    that the network learns this field and not warping as such. They warp anew in each batch; here,
    where the attacker has the data and not the training, each image is warped once (ours).

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples, of all classes but the target.
        cover: Cover samples for each poisoned one; 0 turns the noise mode off.
        grid: Control points along each side, at least 2.
        strength: How far pixels move; the paper's s.
        pattern: Seed of the field.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=10.0))
    cover: float = 2.0
    grid: int = 4
    strength: float = 0.5
    pattern: int = 0

    threat: ClassVar[ThreatModel] = BACKDOOR
    revision: ClassVar[int] = 3
    evades: ClassVar[frozenset[str]] = frozenset({"fine-pruning", "neural-cleanse", "strip"})

    def __post_init__(self) -> None:
        whole("grid", self.grid, low=2)
        number("strength", self.strength, low=0, open_low=True)
        whole("pattern", self.pattern, low=0)
        check_cover(self.cover)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("wanet", dataset, self.target, self.amount, cover_ratio=self.cover)

    def poison(self, dataset: Dataset, rng: Stream) -> Poisoned:
        """Return the data set with some images warped."""
        self.check(dataset)
        trigger = Warp(
            target=dataset.class_index(self.target),
            grid=self.grid,
            strength=self.strength,
            pattern=self.pattern,
        )
        poisoned = plant(dataset, trigger, self.amount, rng.child("samples"), how="wanet")
        domain = dataset.domain
        sides = torch.tensor([domain.shape[2], domain.shape[1]])

        def noisy(x: Tensor, words: Tensor) -> Tensor:
            noise = rng.child("noise").uniform(words, (*domain.shape[1:], 2)).mul_(2).sub_(1)
            places = (trigger.field(domain) + noise / sides).clamp_(-1, 1)
            return trigger.warped(x, places)

        return cover(poisoned, self.cover, noisy, rng.child("cover"), how="wanet")
