"""What faults change in an activation: boxes of new values, one a row.

A **row** is one image under one case of faults. At each node of the network a row's change is a
box: the new values of some consecutive channels, rows and columns; everything outside is as
without faults. All rows of a batch have boxes of one size, each at its own place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Box", "Rows", "Span", "peaks", "picked", "positions", "take", "whole"]

Span = tuple[Tensor | None, ...]
"""Where boxes begin in each dimension, (R,) int64; None where they hold the whole dimension."""


@dataclass(frozen=True)
class Rows:
    """The rows of a batch.

    Attributes:
        case: (R,) int64, position of the case in its batch.
        image: (R,) int64, position of the image in the cache.
    """

    case: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.case)

    def at(self, index: Tensor | slice) -> Rows:
        """Return the rows at these positions, or under this mask."""
        index = positions(index)
        return Rows(picked(self.case, index), picked(self.image, index))


@dataclass(frozen=True)
class Box:
    """New values of one node's output.

    Attributes:
        origin: Where each row's box begins in each dimension of the output, batch apart.
        value: (R, *size).
    """

    origin: Span
    value: Tensor

    @property
    def size(self) -> tuple[int, ...]:
        """Of one row's box."""
        return tuple(self.value.shape[1:])

    @property
    def is_whole(self) -> bool:
        """Whether boxes hold the whole output."""
        return all(o is None for o in self.origin)

    def at(self, index: Tensor | slice) -> Box:
        """Return the boxes of the rows at these positions, or under this mask."""
        index = positions(index)
        origin = tuple(None if o is None else picked(o, index) for o in self.origin)
        return Box(origin, picked(self.value, index))

    def channels(self) -> Tensor | None:
        """Return (R, k) int64, the channels that each box holds; None if all."""
        first = self.origin[0]
        if first is None:
            return None
        return first[:, None] + torch.arange(self.value.shape[1], device=first.device)


def picked(value: Tensor, index: Tensor | slice) -> Tensor:
    """Return the rows of a tensor at these positions, or under this mask.

    The same as indexing, several times as fast where rows are long: they are copied as they lie.
    """
    index = positions(index)
    return value.index_select(0, index) if isinstance(index, Tensor) else value[index]


def positions(index: Tensor | slice) -> Tensor | slice:
    """Return the positions under a mask, and anything else as it is."""
    if isinstance(index, Tensor) and index.dtype is torch.bool:
        return index.nonzero()[:, 0]
    return index


def take(base: Tensor, image: Tensor, origin: Span, size: Sequence[int]) -> Tensor:
    """Return the values of `base`, (images, *shape), in each row's box: (R, *size)."""
    base = base.contiguous()
    if all(o is None for o in origin):
        return picked(base, image)
    channels = _whole_channels(base, image, origin, size)
    if channels is not None:
        values = picked(base.flatten(0, 1), channels)
        return values.view(len(image), size[0], *values.shape[1:])
    # all places that a box can begin at, as rows of a view: many times faster than indices
    first = image * base.stride(0)
    last = base.numel()
    for step, o, n in zip(base.stride()[1:], origin, size, strict=True):
        last -= (n - 1) * step
        first = first if o is None else first + o * step
    windows = base.as_strided((max(last, 0), *size), (1, *base.stride()[1:]))
    return windows.index_select(0, first)


def whole(box: Box, base: Tensor, image: Tensor) -> Tensor:
    """Return the whole new output of each row: (R, *shape)."""
    if box.is_whole:
        return box.value
    out = picked(base, image).to(torch.promote_types(base.dtype, box.value.dtype))
    every = torch.arange(len(image), device=base.device)
    channels = _whole_channels(out, every, box.origin, box.size)
    if channels is not None and out.is_contiguous():
        out.view(-1, *out.shape[2:]).index_copy_(0, channels, box.value.flatten(0, 1))
    else:
        out[_places(every, box.origin, box.size)] = box.value
    return out


def _whole_channels(base: Tensor, row: Tensor, origin: Span, size: Sequence[int]) -> Tensor | None:
    """Return where each row's channels are among all of (rows, channels, ...), if whole.

    They can be copied as they lie then, several times as fast.
    """
    first, *others = origin
    if first is None or any(o is not None for o in others):
        return None
    channel = (row * base.shape[1] + first)[:, None]
    return (channel + torch.arange(size[0], device=base.device)).flatten()


def _places(row: Tensor, origin: Span, size: Sequence[int]) -> tuple[Tensor, ...]:
    """Return indices of each row's box in (rows, *shape)."""
    dims = len(origin)
    index = [row.view(-1, *[1] * dims)]
    for d, (o, n) in enumerate(zip(origin, size, strict=True)):
        at = torch.arange(n, device=row.device).view([-1 if e == d else 1 for e in range(dims)])
        index.append(at.unsqueeze(0) if o is None else at + o.view(-1, *[1] * dims))
    return tuple(index)


def peaks(value: Tensor) -> Tensor:
    """Return the largest size of a number in each row, (rows,); NaN where there is one."""
    if not len(value):
        return value.new_zeros(0)
    flat = value.reshape(len(value), -1)
    return torch.maximum(flat.amax(1), -flat.amin(1))  # no copy of the sizes
