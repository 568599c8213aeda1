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

_USELESS = 1e12
"""From here on a bound drops nothing, and its squares would soon overflow."""


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
        pairs: (classes, classes) which share of the second bound holds for a pair of scores; None
            if all of it does.
        alike: Whether `one` bounds a part of what `every` does, so that `pairs` holds for it too.
    """

    weights: Tensor
    every: Tensor
    one: Tensor
    plus: float = 0.0
    plus_norm: float = 0.0
    units: Tensor | None = None
    pairs: Tensor | None = None
    alike: bool = False

    @property
    def is_useful(self) -> bool:
        """Whether any change is small enough for it: of a deep network it may be none."""
        largest = max(float(b.max()) for b in (self.weights, self.every, self.one))
        return largest < _USELESS and max(self.plus, self.plus_norm) < _USELESS

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
            pairs=self.pairs if self.pairs is other.pairs else None,
            alike=self.alike and other.alike,
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
            self,
            weights=self.weights.reshape(shape),
            every=every,
            one=every,
            units=None,
            alike=True,
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

    def ease(self, scores: Tensor, labels: Tensor) -> Tensor | None:
        """Return which share of the second bound says whether a prediction may change, (images,).

        That bound is of the two scores that move most. A change leaves a prediction as it is if it
        moves no score by its margin below the best; where scores with a small margin move little
        with the best one, it may be larger. Compared is still with the smallest margin.

        Args:
            scores: (images, classes).
            labels: (images,) of the best ones.

        Returns:
            At most 1 each; None if all of the bound counts.
        """
        if self.pairs is None or scores.shape[1] < 2:  # noqa: PLR2004 - classes
            return None
        best = labels[:, None]
        margins = (scores.gather(1, best) - scores).double()
        own = torch.zeros_like(margins, dtype=torch.bool).scatter(1, best, value=True)
        smallest = margins.masked_fill(own, torch.inf).amin(1)
        share = (self.pairs[labels].double() / margins).masked_fill(own, 0.0)
        ease = (share.nan_to_num(torch.inf).amax(1) * smallest).nan_to_num(1.0)
        return ease.clamp(0.0, 1.0).to(scores.dtype)

    def reach(
        self,
        channels: Tensor | None,
        size: Tensor,
        length: Tensor,
        ease: Tensor | float = 1.0,
    ) -> Tensor:
        """Return by how much changes may move two scores apart, as far as it counts, (rows,).

        Arguments as those of `reaches`.
        """
        return self.reaches(channels, size, length, ease)[1]

    def reaches(
        self,
        channels: Tensor | None,
        size: Tensor,
        length: Tensor,
        ease: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """Return how far changes may move two scores apart, and how much counts, (rows,) both.

        Args:
            channels: (rows, k) that change; None for all.
            size: (rows, k) sum of the change's absolute values in each.
            length: (rows, k) its Euclidean norm in each.
            ease: (rows,) share of the second bound that counts, where it is not that of one channel
                by itself.
        """
        weights = self.by_channel()
        held = weights[None] if channels is None else weights[channels]
        first = (size * held).sum(1) + self.plus
        if channels is not None and channels.shape[1] == 1:
            second = (length * self.one[channels])[:, 0]
            ease = ease if self.alike else 1.0
        else:
            every = self.every[None] if channels is None else self.every[channels]
            second = torch.linalg.vector_norm(length * every, dim=1)
        second = second + self.plus_norm
        # NaN stays NaN
        return torch.minimum(first, second), torch.minimum(first, second * ease)
