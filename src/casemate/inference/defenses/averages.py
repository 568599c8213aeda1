"""Averaging filters in front of the model: over a neighborhood or over a radius.

Khalid et al., "FAdeML: understanding the impact of pre-processing noise filtering on adversarial
machine learning", DATE 2019 (arXiv 1811.01444) name local averages with np = 4, 8, 16, 32, 64
neighborhood pixels (LAP) and with radius r = 1..5 (LAR) without giving the masks; the definitions
here are ours. At the image's border both average over the pixels that exist.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import UsageError
from casemate.inference.defenses.images import check_images

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain

__all__ = ["NeighborhoodAverage", "RadiusAverage"]

_MOST_NEIGHBORS = 1024
_LARGEST_RADIUS = 16


@dataclass(frozen=True, kw_only=True)
class NeighborhoodAverage:
    """Each pixel becomes the mean of itself and its `neighbors` nearest pixels (FAdeML's LAP).

    Our definition: pixels are taken ring by ring in Euclidean distance; where the last ring has
    more pixels than are still wanted, all of them share the remaining weight, so the mask is
    symmetric and its weights sum to neighbors + 1. 4 is the cross, 8 the 3 x 3 square.

    Attributes:
        neighbors: Number of neighbors, 1 to 1024; FAdeML uses 4, 8, 16, 32 and 64.
    """

    neighbors: int = 8

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.neighbors <= _MOST_NEIGHBORS:
            raise UsageError(
                f"neighbors is {self.neighbors}, but it must lie between 1 and {_MOST_NEIGHBORS}"
            )

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if the inputs are no images."""
        check_images("an averaging filter", domain)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the filtered (b, channels, height, width) images."""
        return _average(x, neighborhood_mask(self.neighbors))


@dataclass(frozen=True, kw_only=True)
class RadiusAverage:
    """Each pixel becomes the mean of the disk of radius `radius` around it (FAdeML's LAR).

    Our definition: the pixels at a Euclidean distance of at most radius, the center included.

    Attributes:
        radius: In pixels, 1 to 16; FAdeML uses 1 to 5.
    """

    radius: int = 1

    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.radius <= _LARGEST_RADIUS:
            raise UsageError(
                f"radius is {self.radius}, but it must lie between 1 and {_LARGEST_RADIUS} pixels"
            )

    def check(self, domain: Domain) -> None:
        """Raise `UsageError` if the inputs are no images."""
        check_images("an averaging filter", domain)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the filtered (b, channels, height, width) images."""
        return _average(x, radius_mask(self.radius))


@lru_cache(maxsize=64)
def neighborhood_mask(neighbors: int) -> Tensor:
    """Return the (2 m + 1, 2 m + 1) mask of weights, the center's being 1."""
    reach = 1
    while (2 * reach + 1) ** 2 - 1 < 2 * neighbors + 8:
        reach += 1
    offsets = range(-reach, reach + 1)
    squares = {(i, j): i * i + j * j for i in offsets for j in offsets}
    rings = Counter(squares.values())
    weight: dict[int, float] = {0: 1.0}
    wanted = float(neighbors)
    for square in sorted(rings)[1:]:
        weight[square] = min(1.0, wanted / rings[square])
        wanted -= weight[square] * rings[square]
        if wanted <= 0:
            break
    mask = torch.tensor([[weight.get(squares[i, j], 0.0) for j in offsets] for i in offsets])
    return _trim(mask)


@lru_cache(maxsize=64)
def radius_mask(radius: int) -> Tensor:
    """Return the (2 radius + 1, 2 radius + 1) mask of ones inside the disk."""
    axis = torch.arange(-radius, radius + 1)
    return ((axis[:, None] ** 2 + axis**2) <= radius**2).to(torch.float32)


def _trim(mask: Tensor) -> Tensor:
    """Drop outer rows and columns of zeros, keeping the center in the middle."""
    while len(mask) > 1 and not mask[0].any():
        mask = mask[1:-1, 1:-1]
    return mask


def _average(x: Tensor, mask: Tensor) -> Tensor:
    channels, height, width = x.shape[1:]
    reach = len(mask) // 2
    kernel = mask.to(x)
    weights = kernel.expand(channels, 1, *kernel.shape)
    total = F.conv2d(x, weights, padding=reach, groups=channels)
    inside = F.conv2d(x.new_ones((1, 1, height, width)), kernel[None, None], padding=reach)
    return total / inside
