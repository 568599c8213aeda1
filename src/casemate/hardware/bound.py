"""Bounds of how far a change of an activation can move two scores apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Bound"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a change d of a node's output weighs at most, in two ways.

    It moves the difference of any two scores by no more than `sum(weights * abs(d)) + plus`, and
    by no more than the norm of `every * d` plus `plus_norm`, or of `one[c] * d` for a change of
    channel c alone. The additions are what rounding to integers on the way to the scores makes of
    a change, however small.

    Attributes:
        weights: (*shape).
        every: (channels,).
        one: (channels,).
        plus: Of the first bound.
        plus_norm: Of the second.
        units: (classes,) what one of each score's steps is worth, where the node's output is the
            scores but for that; else None.
    """

    weights: Tensor
    every: Tensor
    one: Tensor
    plus: float = 0.0
    plus_norm: float = 0.0
    units: Tensor | None = None

    @classmethod
    def of_scores(cls, units: Tensor) -> Bound:
        """Return the bound of scores themselves: two of them change."""
        return cls(weights=units, every=units * math.sqrt(2), one=units, units=units)

    def __add__(self, other: Bound) -> Bound:
        """Return the bound of a change that goes two ways."""
        # Cauchy and Schwarz: a x + b y <= sqrt((a + b) (a x^2 + b y^2))
        a, b = self.every.max().clamp_min(1e-30), other.every.max().clamp_min(1e-30)
        both = ((a + b) * (self.every.square() / a + other.every.square() / b)).sqrt()
        return Bound(
            weights=self.weights + other.weights,
            every=both,
            one=self.one + other.one,
            plus=self.plus + other.plus,
            plus_norm=self.plus_norm + other.plus_norm,
        )

    def times(self, factor: Tensor | float, norm: Tensor | float | None = None) -> Bound:
        """Return the bound before something that multiplies each channel by at most `factor`.

        Args:
            factor: (channels,) or (1,) or one for all.
            norm: By how much it may multiply a channel's norm, if not by the same.
        """
        norm = factor if norm is None else norm
        spread = factor
        if not isinstance(factor, float) and factor.numel() > 1:
            spread = factor.view(-1, *[1] * (self.weights.ndim - 1))
        return replace(
            self,
            weights=self.weights * spread,
            every=self.every * norm,
            one=self.one * norm,
            units=None,
        )

    def rounded(self) -> Bound:
        """Return the bound before rounding, which may move each element by one step more."""
        each = self.weights[0].numel() if self.weights.ndim > 1 else 1
        return replace(
            self,
            plus=self.plus + float(self.weights.sum()),
            plus_norm=self.plus_norm + math.sqrt(float(self.every.square().sum()) * each),
            units=None,
        )

    def reshaped(self, shape: Sequence[int]) -> Bound:
        """Return the bound of the same elements in another shape."""
        channels = shape[0]
        after = tuple(self.weights.shape)
        if len(after) == 1 or after[0] == channels:
            every = self.every.view(channels, -1).amax(1)
        else:
            every = self.every.max().expand(channels)
        return replace(
            self, weights=self.weights.reshape(shape), every=every, one=every, units=None
        )

    def parts(self, sizes: Sequence[int]) -> list[Bound]:
        """Return the bounds of parts that were joined along the channels."""
        each = list(sizes)
        split = zip(
            torch.split(self.weights, each),
            torch.split(self.every, each),
            torch.split(self.one, each),
            strict=True,
        )
        return [
            replace(self, weights=weights, every=every, one=one, units=None)
            for weights, every, one in split
        ]

    def by_channel(self) -> Tensor:
        """Return the largest weight in each channel: (channels,)."""
        return self.weights if self.weights.ndim == 1 else self.weights.flatten(1).amax(1)

    def reach(self, channels: Tensor | None, size: Tensor, length: Tensor) -> Tensor:
        """Return by how much changes may move two scores apart, (rows,).

        Args:
            channels: (rows, k) that change; None for all.
            size: (rows, k) sum of the change's absolute values in each.
            length: (rows, k) its Euclidean norm in each.
        """
        weights = self.by_channel()
        held = weights[None] if channels is None else weights[channels]
        first = (size * held).sum(1) + self.plus
        if channels is not None and channels.shape[1] == 1:
            second = (length * self.one[channels])[:, 0]
        else:
            every = self.every[None] if channels is None else self.every[channels]
            second = torch.linalg.vector_norm(length * every, dim=1)
        return torch.minimum(first, second + self.plus_norm)  # NaN stays NaN
