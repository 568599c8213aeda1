"""Windows that slide over maps, and what of a change they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.hardware.changes import Box, take

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Window", "patch"]

_FAR = 1 << 31  # more than any distance in a map


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
    starts = [s if isinstance(s, Tensor) else torch.full_like(image, s) for s in start]
    if base is None:
        out = value.new_zeros((*value.shape[:2], *size))
    else:
        out = _behind(base, image, box, starts, size, fill).to(value.dtype)
    # boxes at the same place of their patches are written together: few places differ, at edges
    high, wide = (-s if o is None else o - s for s, o in zip(starts, box.origin[1:], strict=True))
    places, which = torch.unique(high * _FAR + wide, return_inverse=True)
    for k in range(len(places)):
        rows = (which == k).nonzero()[:, 0]
        place = int(high[rows[0]]), int(wide[rows[0]])
        seen = [_overlap(p, h, n) for p, h, n in zip(place, value.shape[2:], size, strict=True)]
        if any(s is None for s in seen):
            continue
        (high_out, high_in), (wide_out, wide_in) = (s for s in seen if s is not None)
        into, part = out[:, :, high_out, wide_out], value[:, :, high_in, wide_in]
        if len(places) == 1:
            into.copy_(part)
        else:
            into.index_copy_(0, rows, part.index_select(0, rows))
    return out


def _overlap(place: int, held: int, size: int) -> tuple[slice, slice] | None:
    """Return where a patch of `size` holds a box of `held` at `place`, and which part of it."""
    low, high = max(place, 0), min(place + held, size)
    return None if high <= low else (slice(low, high), slice(low - place, high - place))


def _behind(
    base: Tensor,
    image: Tensor,
    box: Box,
    start: Sequence[Tensor],
    size: Sequence[int],
    fill: float,
) -> Tensor:
    """Return what is in each patch without the box: (R, channels, *size)."""
    origin = (box.origin[0], *start)
    inside = all(
        bool(((s >= 0) & (s + n <= length)).all())
        for s, n, length in zip(start, size, base.shape[2:], strict=True)
    )
    if inside:
        return take(base, image, origin, (box.size[0], *size))
    high, wide = (
        s[:, None] + torch.arange(n, device=image.device) for s, n in zip(start, size, strict=True)
    )
    exists = ((high >= 0) & (high < base.shape[2]))[:, None, :, None] & (
        (wide >= 0) & (wide < base.shape[3])
    )[:, None, None, :]
    channels = box.channels()
    if channels is None:
        channels = torch.arange(base.shape[1], device=image.device).expand(len(image), -1)
    held = base[
        image.view(-1, 1, 1, 1),
        channels[:, :, None, None],
        high.clamp(0, base.shape[2] - 1)[:, None, :, None],
        wide.clamp(0, base.shape[3] - 1)[:, None, None, :],
    ]
    return torch.where(exists, held, torch.full((), fill, dtype=held.dtype, device=held.device))
