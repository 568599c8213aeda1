"""Copies: which inputs of a set are the same, bit by bit or nearly so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.training.defenses.label_votes import numbered, own_and_other

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream

__all__ = ["exact_copies", "near_votes", "spread_of", "thumbnails", "typical_gap"]

_TILE = 512  # distances are looked at in squares of this side, which fit into caches
_BATCH = 512
_ASKED = 1000
_DISTANCES = 1 << 22  # in memory at a time


def thumbnails(dataset: Dataset, side: int) -> Tensor:
    """Return inputs in few values, each at most 1 away from 0.

    Returns:
        (n, 4, v) float32 in units of the domain's width, the quarters of an image apart; (n, 1, v)
        of features.
    """
    domain = dataset.domain
    found = []
    for begin in range(0, len(dataset), _BATCH):
        x = (dataset.batch(slice(begin, begin + _BATCH)) - domain.low) / domain.width
        if domain.is_image:
            # an even number, so that the quarters are of one size; pooling may repeat pixels
            height, width = (min(side, n + n % 2) // 2 for n in domain.shape[1:])
            x = F.adaptive_avg_pool2d(x, (2 * height, 2 * width))
            x = x.view(len(x), -1, 2, height, 2, width).permute(0, 2, 4, 1, 3, 5)
            found.append(x.reshape(len(x), 4, -1))
        else:
            found.append(x.view(len(x), 1, -1))
    return torch.cat(found)


def spread_of(small: Tensor) -> Tensor:
    """Return (n,) the variance of each thumbnail's values."""
    return small.flatten(1).var(1, correction=0)


def typical_gap(small: Tensor, rng: Stream) -> Tensor:
    """Return (n,) times the mean square by which a sample's nearest other one differs: the median.

    Nearest ones that are the same do not count: of a set of copies the others tell what is usual.

    Args:
        small: (n, 1, v) features.
        rng: Of the samples that are asked, 1000 at most.
    """
    x = small.flatten(1)
    asked = x[torch.randperm(len(x), generator=rng.torch())[:_ASKED].to(x.device)]
    gaps = []
    for some in torch.split(asked, max(1, _DISTANCES // max(1, len(x)))):
        apart = torch.cdist(some, x, compute_mode="donot_use_mm_for_euclid_dist")
        gaps.append(apart.masked_fill_(apart == 0, torch.inf).amin(1))
    gap = torch.cat(gaps)
    gap = gap[gap.isfinite()]
    typical = gap.median().square() / x.shape[1] if len(gap) else torch.ones_like(x[0, 0])
    return typical.expand(len(x))


def near_votes(
    small: Tensor,
    labels: Tensor,
    classes: int,
    tolerance: float,
    spread: Tensor,
    *,
    spare_quarter: bool,
) -> tuple[Tensor, Tensor]:
    """Return how many copies of each sample carry its label, and how many carry others.

    Args:
        small: (n, q, v) of `thumbnails`, on any device.
        labels: (n,) int64.
        classes: Number of classes.
        tolerance: As for `NearDuplicates`.
        spread: (n,) mean square that the tolerance is a share of, of `spread_of` or `typical_gap`.
        spare_quarter: Whether the quarter that differs most does not count.

    Returns:
        (n,) int64 copies of the same label, the sample itself counted, and (n, 2) int64 copies of
        the most frequent other label and of any other one.
    """
    n, quarters, values = small.shape
    counted = values * (quarters - 1 if spare_quarter else quarters)
    most = tolerance**2 * counted * spread
    small = (small - small.mean(0)).transpose(0, 1)  # short vectors round less
    squares, ones = small.square().sum(2, keepdim=True), torch.ones_like(small[..., :1])
    # |a|^2 + |b|^2 - 2 a b as one product
    left = torch.cat([small, squares, ones], dim=2)
    right = torch.cat([-2 * small, ones, squares], dim=2).transpose(1, 2).contiguous()
    votes = torch.zeros(n * classes, dtype=torch.int64)
    for top in range(0, n, _TILE):
        for begin in range(top, n, _TILE):  # the other half is the same
            apart = left[:, top : top + _TILE] @ right[..., begin : begin + _TILE]
            total = apart.sum(0)
            if spare_quarter:
                total -= apart.amax(0)
            limit = torch.minimum(most[top : top + _TILE, None], most[begin : begin + _TILE])
            near = total.clamp_(min=0) < limit
            one, other = (i.cpu() for i in near.nonzero(as_tuple=True))
            one, other = one + top, other + begin
            each = torch.ones_like(one)
            votes.index_add_(0, one * classes + labels[other], each)
            if begin > top:
                votes.index_add_(0, other * classes + labels[one], each)
    votes = votes.view(n, classes)
    here = torch.arange(n)
    votes[here, labels] = votes[here, labels].clamp(min=1)  # of a single color, not even its own
    return own_and_other(votes, labels)


def exact_copies(dataset: Dataset, rng: Stream) -> Tensor:
    """Return (n,) int64 numbers, the same for inputs that are the same bit by bit.

    Args:
        dataset: Whose inputs to compare.
        rng: Of the hash: two inner products with random words modulo 2**64.
    """
    size = dataset.domain.size
    lowest = torch.iinfo(torch.int64).min
    words = torch.randint(
        lowest, torch.iinfo(torch.int64).max, (2, size), generator=rng.torch(), dtype=torch.int64
    )
    hashes = []
    for begin in range(0, len(dataset), _BATCH):
        x = dataset.batch(slice(begin, begin + _BATCH)).flatten(1) + 0.0  # -0 is 0
        bits = x.contiguous().view(torch.int32).long()
        hashes.append(torch.stack([(bits * w).sum(1) for w in words], dim=1))
    return numbered(torch.cat(hashes))
