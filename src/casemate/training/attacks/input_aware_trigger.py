"""The trigger of the input-aware backdoor: one network draws a pattern, another says where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.data.domain import Domain

__all__ = ["Generator", "InputTrigger", "apply", "centered", "sharpened"]

_LEVELS = 2
_BATCH = 512


class Generator(nn.Module):
    """Convolutions that shrink an image, then enlarge it again: (b, c, h, w) to (b, k, h, w).

    Nguyen and Tran's generator for MNIST: two levels, each of two 3x3 convolutions with batch
    normalization and ReLU, maximum pooling on the way down, bilinear interpolation up. Their
    networks for color images have a level more and twice the channels. Ours: sizes are noted on the
    way down, so that images of any size come back to it.
    """

    def __init__(self, channels: int, out: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS)]
        self.down = nn.ModuleList(
            nn.Sequential(_block(before, after), _block(after, after))
            for before, after in pairwise([channels, *widths])
        )
        self.middle = _block(widths[-1], widths[-1])
        ups = [*widths[::-1], out]
        self.up = nn.ModuleList(
            nn.Sequential(_block(before, before), _block(before, after, last=i == _LEVELS - 1))
            for i, (before, after) in enumerate(pairwise(ups))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return values in (-1, 1)."""
        sizes = []
        for block in self.down:
            x = block(x)
            sizes.append(x.shape[-2:])
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = self.middle(x)
        for block, size in zip(self.up, reversed(sizes), strict=True):
            x = block(F.interpolate(x, size, mode="bilinear", align_corners=True))
        return x.tanh()


def _block(before: int, after: int, *, last: bool = False) -> nn.Sequential:
    parts = [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after, momentum=0.05)]
    return nn.Sequential(*parts) if last else nn.Sequential(*parts, nn.ReLU())


def centered(x: Tensor, domain: Domain) -> Tensor:
    """Return inputs of the domain on [-1, 1], where the networks work."""
    return (x - domain.low) * (2 / domain.width) - 1


def apply(x: Tensor, pattern: Tensor, mask: Tensor, domain: Domain) -> Tensor:
    """Return images with a pattern where the mask says.

    Args:
        x: (b, *shape) in the domain.
        pattern: (b, *shape) in (-1, 1).
        mask: (b, 1, height, width) in (0, 1).
        domain: Of the images.
    """
    return x + mask * (domain.low + (pattern + 1) * (domain.width / 2) - x)


def sharpened(mask: Tensor) -> Tensor:
    """Return a mask network's output in (-1, 1) as a mask in (0, 1), nearly binary."""
    return (10 * mask).tanh() / 2 + 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class InputTrigger:
    """A pattern of its own for each image.

    Attributes:
        target: Label that the attacker wants.
        width: Channels of the networks' first level.
        patterns: State of the network that draws the pattern.
        masks: State of the network that says where it is shown.
    """

    target: int
    width: int
    patterns: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the images, each with its own pattern."""
        return self.shown(x, x, domain)

    def shown(self, x: Tensor, of: Tensor, domain: Domain) -> Tensor:
        """Return images with the patterns of others, one each."""
        channels = domain.shape[0]
        draw = self._network(self.patterns, channels, x.device, out=channels)
        place = self._network(self.masks, channels, x.device, out=1)
        parts = []
        with torch.no_grad():
            for part, other in zip(torch.split(x, _BATCH), torch.split(of, _BATCH), strict=True):
                seen = centered(other, domain)
                parts.append(apply(part, draw(seen), sharpened(place(seen)), domain))
        return torch.cat(parts) if parts else x.clone()

    def _network(
        self, state: Mapping[str, Tensor], channels: int, device: torch.device, *, out: int
    ) -> Generator:
        with torch.device("meta"):  # neither memory nor random numbers for weights to be replaced
            network = Generator(channels, out, self.width)
        network.load_state_dict(dict(state), assign=True)
        return network.eval().to(device)
