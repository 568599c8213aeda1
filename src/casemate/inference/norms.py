"""Distances, projections and rounding within a norm and a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.domain import Domain
    from casemate.inference.jobs import Norm

__all__ = ["distance", "flat", "per_job", "project", "round_to_step", "within"]

_TINY = 1e-12
_SLACK = 1e-4  # relative: float32 projections land this close to the sphere
_GRID_SLACK = 1e-3  # in steps: a point this close to a grid line is on it


def flat(x: Tensor) -> Tensor:
    """Return (b, size) of (b, *shape), whatever the memory layout."""
    return x.reshape(len(x), -1)


def per_job(values: Tensor, like: Tensor) -> Tensor:
    """Return (b,) values shaped to broadcast over (b, *shape)."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def distance(x: Tensor, origin: Tensor, norm: Norm) -> Tensor:
    """Return the (b,) distances of x from origin."""
    delta = flat(x - origin)
    if norm == "linf":
        return delta.abs().amax(1)
    length: Tensor = torch.linalg.vector_norm(delta, dim=1)
    return length


def within(x: Tensor, origin: Tensor, norm: Norm, epsilon: float | None, domain: Domain) -> Tensor:
    """Return (b,) bool: x is in the domain and within epsilon of origin, up to rounding error."""
    inside = (flat(x).amin(1) >= domain.low) & (flat(x).amax(1) <= domain.high)
    if epsilon is None:
        return inside
    return inside & (distance(x, origin, norm) <= epsilon * (1 + _SLACK) + _SLACK * _GRID_SLACK)


def project(x: Tensor, origin: Tensor, norm: Norm, epsilon: float, domain: Domain) -> Tensor:
    """Project x in place into the epsilon ball around origin and then into the domain.

    For L-infinity this is the exact projection onto the intersection. For L2 the ball comes first;
    clipping to a box that holds the origin cannot leave the ball.

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
        length = torch.linalg.vector_norm(flat(x), dim=1).clamp_min_(_TINY)
        x.mul_(per_job((epsilon / length).clamp_max_(1.0), x)).add_(origin)
    return x.clamp_(domain.low, domain.high)


def round_to_step(
    x: Tensor, origin: Tensor, norm: Norm, epsilon: float | None, domain: Domain
) -> Tensor:
    """Return x on the domain's grid (8-bit values), still within epsilon of origin.

    L-infinity: the nearest grid point inside the box of radius epsilon. L2: the nearest grid
    point; rows that this pushes out of the ball are rounded towards the origin instead.
    """
    if domain.step is None:
        return x
    step, low = domain.step, domain.low
    grid = ((x - low) / step).round_()
    top = round(domain.width / step)
    if norm == "linf" and epsilon is not None:
        start = (origin - low) / step
        reach = epsilon / step
        grid = grid.maximum((start - reach - _GRID_SLACK).ceil_())
        grid = grid.minimum((start + reach + _GRID_SLACK).floor_())
    rounded = grid.clamp_(0, top).mul_(step).add_(low).clamp_(domain.low, domain.high)
    if norm == "l2" and epsilon is not None:
        out = distance(rounded, origin, norm) > epsilon * (1 + _SLACK)
        if out.any():
            start = (origin[out] - low) / step
            exact = (x[out] - low) / step
            inward = (
                (exact - _GRID_SLACK).ceil_().where(exact < start, (exact + _GRID_SLACK).floor_())
            )
            rounded[out] = (
                inward.clamp_(0, top).mul_(step).add_(low).clamp_(domain.low, domain.high)
            )
    return rounded
