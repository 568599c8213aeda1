"""Pooling: the largest or the mean value of each window, and the mean of whole maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.changes import Box, whole
from casemate.hardware.growth import Growth
from casemate.hardware.ops.operation import Operation, only
from casemate.hardware.windows import Window, patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Site

__all__ = ["MapMean", "Pool2d"]


@dataclass(frozen=True, kw_only=True)
class Pool2d(Operation):
    """The largest or the mean value of each window of a map.

    Attributes:
        kind: Which of the two.
        kernel: Rows and columns of a window.
        stride: Between windows.
        padding: Rows and columns on each side, which never are the largest and count as 0 in a
            mean.
        dilation: Between taps; only of the largest.
        ceil: Whether a window may run over the edge.
    """

    kind: Literal["max", "mean"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False

    @property
    def masks(self) -> bool:
        """Whether a change may stay below the largest value."""
        return self.kind == "max"

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the pools of all channels."""
        del values
        return self._pooled(inputs[0], self.padding)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the pools that the box reaches."""
        box = only(boxes)
        channel, *spatial = box.origin
        if spatial[0] is None and spatial[1] is None:
            return Box(box.origin, self._pooled(box.value, self.padding))
        if self.kind == "mean" and (self.ceil or any(self.padding)):  # windows count differently
            full = whole(box, site.inputs[0], rows.image)
            return Box((None, None, None), self._pooled(full, self.padding))
        window = Window(self.kernel, self.stride, self.padding, self.dilation)
        ends, starts, sizes = window.over(box, site.output.shape[2:])
        seen = patch(box, starts, sizes, base=site.inputs[0], image=rows.image, fill=-math.inf)
        return Box((channel, *ends), self._pooled(seen, (0, 0)))

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return how many numbers are summed before a mean is taken; 0 if none is."""
        del values, shapes
        return Growth(float(math.prod(self.kernel)) if self.kind == "mean" else 0.0)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return for each input the weights of all windows that see it, and how many may."""
        del values
        windows = math.prod(
            -(-(d * (k - 1) + 1) // s)
            for d, k, s in zip(self.dilation, self.kernel, self.stride, strict=True)
        )
        # a window that runs over the edge takes the mean of fewer elements, perhaps of one
        full = self.kind == "mean" and not self.ceil
        of_each = math.prod(self.kernel) if full else 1
        norms = after.times(math.sqrt(windows / of_each))
        weights = self._spread(after.weights, shapes[0]) / of_each
        return [replace(norms, weights=weights)]

    def _spread(self, after: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return for each input the sum over the windows that see it."""
        taps = torch.ones((1, 1, *self.kernel), dtype=after.dtype, device=after.device)
        channels, height, width = shape
        outputs = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(
                after.shape[1:], self.stride, self.dilation, self.kernel, strict=True
            )
        ]
        padded = [
            max(o, n + 2 * p)
            for o, n, p in zip(outputs, (height, width), self.padding, strict=True)
        ]
        seen = torch.zeros((channels, 1, *padded), dtype=after.dtype, device=after.device)
        spread = F.conv_transpose2d(
            after[:, None], taps, stride=self.stride, dilation=self.dilation
        )
        seen[..., : spread.shape[-2], : spread.shape[-1]] = spread
        top, left = self.padding
        return seen[:, 0, top : top + height, left : left + width]

    def _pooled(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        if self.kind == "max":
            return self._maxima(x, padding)
        return F.avg_pool2d(x, self.kernel, self.stride, padding, ceil_mode=self.ceil)

    def _maxima(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """Return the largest values, a dimension after the other: many times faster than torch's.

        No number is computed, so the result is that of `max_pool2d` bit for bit.
        """
        for d, dim in ((0, -2), (1, -1)):
            size, before = x.shape[dim], padding[d]
            reach = self.dilation[d] * (self.kernel[d] - 1) + 1
            extra = size + 2 * before - reach
            count = (-(-extra // self.stride[d]) if self.ceil else extra // self.stride[d]) + 1
            if self.ceil and (count - 1) * self.stride[d] >= size + before:
                count -= 1  # a window has to begin within the input or the padding before it
            after = max(0, (count - 1) * self.stride[d] + reach - size - before)
            if before or after:
                x = F.pad(x, (before, after) if d else (0, 0, before, after), value=-math.inf)
            last = (count - 1) * self.stride[d] + 1
            taps = [
                x.narrow(dim, k * self.dilation[d], last)[
                    (..., slice(None, None, self.stride[d])) + (() if d else (slice(None),))
                ]
                for k in range(self.kernel[d])
            ]
            x = reduce(torch.maximum, taps)
        return x


@dataclass(frozen=True, kw_only=True)
class MapMean(Operation):
    """The mean of each whole map: (channels, height, width) to (channels,) or (channels, 1, 1).

    Attributes:
        keep: Whether the two dimensions stay.
    """

    keep: bool = False

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the means of all channels."""
        del values
        return inputs[0].mean((2, 3), keepdim=self.keep)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the means of the box's channels."""
        box = only(boxes)
        if box.origin[1] is not None or box.origin[2] is not None:
            box = Box((None, None, None), whole(box, site.inputs[0], rows.image))
        end = (box.origin[0], None, None) if self.keep else (box.origin[0],)
        return Box(end, box.value.mean((2, 3), keepdim=self.keep))

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return infinity: how many numbers are summed depends on the map."""
        del values, shapes
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the share that each element has in the mean."""
        del values
        channels, height, width = shapes[0]
        each = after.weights.view(channels, 1, 1).expand(channels, height, width)
        norms = after.times(1 / math.sqrt(height * width))
        return [replace(norms, weights=each / (height * width))]
