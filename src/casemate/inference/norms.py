"""Distances, projections and rounding within a norm and a domain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain
    from casemate.inference.jobs import Norm

__all__ = ["distance", "flat", "per_job", "project", "round_to_step", "values", "within"]

_TINY = 1e-12
_SLACK = 1e-4  # relative: float32 projections land this close to the sphere
_ROUNDING = 2.0**-21  # relative to the largest value: eight times what float32 rounds by


def flat(x: Tensor) -> Tensor:
    """Return (b, size) of (b, *shape), whatever the memory layout."""
    return x.reshape(len(x), -1)


def values(x: Tensor) -> Tensor:
    """Return (b, size) of (b, *shape) in the order of memory: no copy for channels last either.

    For sums and extremes, to which the order is nothing.
    """
    return flat(x.movedim(1, -1)) if x.ndim == 4 and x.stride(1) == 1 else flat(x)  # noqa: PLR2004


def per_job(numbers: Tensor, like: Tensor) -> Tensor:
    """Return (b,) numbers shaped to broadcast over (b, *shape)."""
    return numbers.view(-1, *(1,) * (like.ndim - 1))


def distance(x: Tensor, origin: Tensor, norm: Norm) -> Tensor:
    """Return the (b,) distances of x from origin."""
    delta = values(x - origin)
    if norm == "linf":
        return delta.abs().amax(1)
    length: Tensor = torch.linalg.vector_norm(delta, dim=1)
    return length


def within(x: Tensor, origin: Tensor, norm: Norm, epsilon: float | None, domain: Domain) -> Tensor:
    """Return (b,) bool: x is in the domain and within epsilon of origin, up to rounding error."""
    inside = (values(x).amin(1) >= domain.low) & (values(x).amax(1) <= domain.high)
    if epsilon is None:
        return inside
    return inside & (distance(x, origin, norm) <= _reach(norm, epsilon, domain))


def _reach(norm: Norm, epsilon: float, domain: Domain) -> float:
    """Return the largest distance that float32 may make of epsilon."""
    spread = 1 if norm == "linf" else math.sqrt(domain.size)
    return epsilon * (1 + _SLACK) + _slack(domain) * spread


def _slack(domain: Domain) -> float:
    """Return by how much float32 may move one value, in the domain's units."""
    return _ROUNDING * max(abs(domain.low), abs(domain.high))


def project(x: Tensor, origin: Tensor, norm: Norm, epsilon: float, domain: Domain) -> Tensor:
    """Project x in place into the epsilon ball around origin and then into the domain.

    For L-infinity this is the nearest point of the intersection. For L2 the ball comes first;
    clipping to a box that holds the origin cannot leave the ball, but where the box cuts the ball
    a nearer point may exist.

    Args:
        x: (b, *shape), changed in place and returned.
        origin: (b, *shape) in the domain.
        norm: "linf" or "l2".
        epsilon: Radius in the domain's units.
        domain: Bounds.
    """
    if norm == "linf":
        x.sub_(origin).clamp_(-epsilon, epsilon).add_(origin)
    else:
        x.sub_(origin)
        length = torch.linalg.vector_norm(values(x), dim=1).clamp_min_(_TINY)
        x.mul_(per_job((epsilon / length).clamp_max_(1.0), x)).add_(origin)
    return x.clamp_(domain.low, domain.high)


def round_to_step(
    x: Tensor, origin: Tensor, norm: Norm, epsilon: float | None, domain: Domain
) -> Tensor:
    """Return x on the domain's grid (8-bit values), still within epsilon of origin.

    L-infinity: the nearest grid value within epsilon, value by value. L2: the nearest grid point;
    rows that this pushes out of the ball are rounded towards the origin instead. An origin need
    not lie on the grid: where no grid value fits, the origin's own value is kept.

    Grid values are made as `Dataset.batch` makes them of 8-bit data, to the last bit: what is
    judged is what a file of these pixels would give.
    """
    step = domain.step
    if step is None:
        return x
    slack = _slack(domain) / 2 / step  # a value this close to the grid is on it
    levels = domain.width / step
    top = math.floor(levels + slack)
    even = levels - top <= slack

    def steps(values: Tensor) -> Tensor:
        return (values - domain.low) / step

    def values(grid: Tensor) -> Tensor:
        scaled = grid.div_(top).mul_(domain.width) if even else grid.mul_(step)
        return scaled.add_(domain.low).clamp_(domain.low, domain.high)

    grid = steps(x).round_()
    if epsilon is None:
        return values(grid.clamp_(0, top))
    start = steps(origin)
    if norm == "linf":
        reach = epsilon / step + slack
        low = (start - reach).ceil_().clamp_min_(0)
        high = (start + reach).floor_().clamp_max_(top)
        return torch.where(low <= high, values(grid.maximum(low).minimum(high)), origin)
    rounded = values(grid.clamp_(0, top))
    out = distance(rounded, origin, norm) > _reach(norm, epsilon, domain)
    if out.any():
        exact, begin = steps(x[out]), start[out]
        inward = torch.where(exact < begin, (exact - slack).ceil_(), (exact + slack).floor_())
        # on the other side of the origin, and farther from it than x is
        past = (inward - begin).abs() > (exact - begin).abs() + slack
        rounded[out] = torch.where(past, origin[out], values(inward.clamp_(0, top)))
    return rounded
