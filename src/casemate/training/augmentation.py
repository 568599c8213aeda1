"""Random changes to a batch of training images, all samples at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.models.hyperparameters import flag, number, whole

if TYPE_CHECKING:
    from casemate.data.domain import Domain

__all__ = ["Augmentation"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images are changed; each image draws its own change, uniformly.

    What leaves the image is cut off, what enters repeats the border, and no value leaves the
    domain.

    Attributes:
        shift: Most pixels moved, along each axis.
        rotation: Most degrees turned, either way.
        scale: Most relative change of size: 0.1 draws from 1/1.1 to 1.1.
        brightness: Most that is added to all values, as a fraction of the domain's width.
        contrast: Most relative change of the distance to the image's mean: 0.3 draws from 0.7
            to 1.3.
        flip: Whether half of the images are mirrored left to right. Off by default: a mirrored
            traffic sign or digit is another sign.
    """

    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        whole("recipe.augmentation.shift", self.shift, low=0, high=4096)
        for key, high in (
            ("rotation", 180.0),
            ("scale", 1.0),
            ("brightness", 1.0),
            ("contrast", 1.0),
        ):
            value = number(f"recipe.augmentation.{key}", getattr(self, key), low=0, high=high)
            object.__setattr__(self, key, value)
        flag("recipe.augmentation.flip", self.flip)

    @property
    def idle(self) -> bool:
        """Whether images stay as they are."""
        return self == Augmentation()

    def __call__(self, x: Tensor, domain: Domain, generator: torch.Generator) -> Tensor:
        """Return changed images.

        Args:
            x: (b, channels, height, width) in the domain; left as it is.
            domain: Bounds of the values.
            generator: On the CPU, whatever the device of `x`, so that a seed means the same
                everywhere.
        """
        if self.idle:
            return x
        # every draw is made whether it is used or not, so that turning one off leaves the others
        draws = (torch.rand(7, len(x), generator=generator) * 2 - 1).to(x.device)
        out = x
        if self.flip:
            out = torch.where((draws[0] < 0).view(-1, 1, 1, 1), out.flip(3), out)
        if self.rotation or self.scale:
            out = self._warp(out, draws[1:5])
        elif self.shift:
            out = self._move(out, draws[1:3])
        if self.contrast or self.brightness:
            center = out.mean(dim=(1, 2, 3), keepdim=True)
            gain = (1 + self.contrast * _spread(draws[5])).to(out.dtype)
            offset = self.brightness * domain.width * _spread(draws[6])
            out = (out - center).mul_(gain).add_(center + offset)
        return out.clamp(domain.low, domain.high)

    def _move(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return `x` moved by whole pixels, which keeps every value."""
        height, width = x.shape[-2:]
        # (-1, 1) in 2 * shift + 1 equal parts; the very ends would round to one pixel more
        steps = (draws * (self.shift + 0.5)).round_().clamp_(-self.shift, self.shift).long()
        rows = (torch.arange(height, device=x.device) - steps[0][:, None]).clamp_(0, height - 1)
        columns = (torch.arange(width, device=x.device) - steps[1][:, None]).clamp_(0, width - 1)
        sample = torch.arange(len(x), device=x.device).view(-1, 1, 1, 1)
        channel = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
        return x[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def _warp(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return `x` turned, resized and moved in one bilinear interpolation."""
        height, width = x.shape[-2:]
        angle = draws[2] * math.radians(self.rotation)
        inverse = torch.exp(-draws[3] * math.log1p(self.scale))
        cosine, sine = angle.cos() * inverse, angle.sin() * inverse
        # grid_sample's coordinates run from -1 to 1 along both sides, whatever the aspect
        aspect = height / width
        rows = torch.stack(
            [
                torch.stack([cosine, -sine * aspect, draws[1] * (2 * self.shift / width)], dim=1),
                torch.stack([sine / aspect, cosine, draws[0] * (2 * self.shift / height)], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(rows, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _spread(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
