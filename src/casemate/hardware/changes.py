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

__all__ = ["Box", "Rows", "Span", "Window", "patch", "picked", "take", "whole"]

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
        index = _positions(index)
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
        index = _positions(index)
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
    index = _positions(index)
    return value.index_select(0, index) if isinstance(index, Tensor) else value[index]


def _positions(index: Tensor | slice) -> Tensor | slice:
    """Return the positions under a mask, and anything else as it is."""
    if isinstance(index, Tensor) and index.dtype is torch.bool:
        return index.nonzero()[:, 0]
    return index


def take(base: Tensor, image: Tensor, origin: Span, size: Sequence[int]) -> Tensor:
    """Return the values of `base`, (images, *shape), in each row's box: (R, *size)."""
    if all(o is None for o in origin):
        return picked(base, image)
    channels = _whole_channels(base, image, origin, size)
    if channels is not None:
        values = picked(base.flatten(0, 1), channels)
        return values.view(len(image), size[0], *values.shape[1:])
    return base[_places(image, origin, size)]


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


@dataclass(frozen=True)
class Window:
    """What slides over (channels, height, width): rows and columns of each.

    Output j sees the inputs j * stride - padding + dilation * (0 .. kernel - 1) of a dimension.

    Attributes:
        kernel: Taps.
        stride: Between two outputs, in inputs.
        padding: Before the first input.
        dilation: Between two taps.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def over(
        self, box: Box, outputs: Sequence[int]
    ) -> tuple[list[Tensor | None], list[Tensor | int], list[int]]:
        """Return what a box reaches, one entry a dimension of rows and columns.

        Args:
            box: Changed inputs.
            outputs: How many outputs there are.

        Returns:
            Where the outputs begin that it reaches, (R,) or None for all; where the inputs begin
            that these see, which may be outside; and how many of those.
        """
        ends: list[Tensor | None] = []
        starts: list[Tensor | int] = []
        sizes = []
        for d in range(2):
            reach, stride = self.dilation[d] * (self.kernel[d] - 1), self.stride[d]
            origin, count = box.origin[1 + d], (box.size[1 + d] - 1 + reach) // stride + 1
            if origin is None or count >= outputs[d]:
                origin, count = None, outputs[d]
            else:
                # the first output whose last tap is not before the box
                first = -torch.div(
                    -(origin + self.padding[d] - reach), stride, rounding_mode="floor"
                )
                origin = first.clamp(0, outputs[d] - count)
            ends.append(origin)
            starts.append((0 if origin is None else origin * stride) - self.padding[d])
            sizes.append((count - 1) * stride + reach + 1)
        return ends, starts, sizes


def patch(
    box: Box,
    start: Sequence[Tensor | int],
    size: Sequence[int],
    *,
    base: Tensor | None,
    image: Tensor,
    fill: float,
) -> Tensor:
    """Return a patch of the last two dimensions of each row's input: (R, channels, *size).

    Args:
        box: New values; its channels are the patch's.
        start: First row and column of the patch, (R,) or one number for all; may be outside.
        size: Rows and columns of the patch.
        base: (images, channels, height, width) without faults, for what is outside the box; None
            for 0 there.
        image: (R,) of each row.
        fill: What is outside the input, where `base` is given.
    """
    value = box.value
    device = value.device
    inside = None
    for d, n in enumerate(size):
        first = start[d] if isinstance(start[d], Tensor) else torch.full_like(image, start[d])  # type: ignore[arg-type]
        at = first[:, None] + torch.arange(n, device=device)  # type: ignore[index]
        begin = box.origin[1 + d]
        relative = at if begin is None else at - begin[:, None]
        held = value.shape[2 + d]
        ok = (relative >= 0) & (relative < held)
        view = [len(image), 1, -1, 1] if d == 0 else [len(image), 1, 1, -1]
        ok = ok.view(view)
        inside = ok if inside is None else inside & ok
        index = relative.clamp(0, held - 1).view(view)
        shape = list(value.shape)
        shape[2 + d] = n
        value = value.gather(2 + d, index.expand(shape))
    assert inside is not None  # noqa: S101 - there are two dimensions
    if base is None:
        return torch.where(inside, value, torch.zeros((), dtype=value.dtype, device=device))
    height, width = base.shape[-2:]
    rows, columns = (
        (s.view(-1, 1) if isinstance(s, Tensor) else s) + torch.arange(n, device=device)[None]
        for s, n in zip(start, size, strict=True)
    )
    rows, columns = rows.expand(len(image), -1), columns.expand(len(image), -1)
    exists = ((rows >= 0) & (rows < height)).view(len(image), 1, -1, 1) & (
        (columns >= 0) & (columns < width)
    ).view(len(image), 1, 1, -1)
    channels = box.channels()
    if channels is None:
        channels = torch.arange(base.shape[1], device=device).expand(len(image), -1)
    outside = base[
        image.view(-1, 1, 1, 1),
        channels[:, :, None, None],
        rows.clamp(0, height - 1).view(len(image), 1, -1, 1),
        columns.clamp(0, width - 1).view(len(image), 1, 1, -1),
    ].to(value.dtype)
    outside = torch.where(exists, outside, torch.full((), fill, dtype=value.dtype, device=device))
    return torch.where(inside, value, outside)
