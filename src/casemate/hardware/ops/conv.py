"""Two-dimensional convolution, in floating point or of integers into accumulators."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import grad

from casemate.hardware.changes import Box, picked, take, whole
from casemate.hardware.growth import Growth
from casemate.hardware.ops.convolve import convolve
from casemate.hardware.ops.exact import accumulator
from casemate.hardware.ops.extents import weighted
from casemate.hardware.ops.grouping import Taps, taps
from casemate.hardware.ops.layer import Layer
from casemate.hardware.ops.operation import only
from casemate.hardware.ops.operator_norm import convolution
from casemate.hardware.windows import Window, patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["Conv2d"]

_transposed: Callable[..., Tensor] = grad.conv2d_input


@dataclass(frozen=True, kw_only=True)
class Conv2d(Layer):
    """A convolution of (channels, height, width) with zero padding.

    Weights are (outputs, inputs / groups, height, width).

    Attributes:
        stride: Rows and columns.
        padding: Rows and columns on each side.
        dilation: Rows and columns.
        groups: As torch has them.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the whole output."""
        (x,) = inputs
        weight, bias = self.decoded(values), self.biases(values)
        kind = accumulator(weight, bias, self.amplitude)
        kind = torch.promote_types(kind, x.dtype)
        out = convolve(
            self.centered(values, x).to(kind),
            weight.to(kind),
            None if bias is None else bias.to(kind),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return self.held(out)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the output's change: the input's change convolved, on top of what was there."""
        box = only(boxes)
        (base_in,), base_out, values = site.inputs, site.output, site.values
        parts = None if box.is_whole else self._parts(box, base_in.shape[1], base_out.shape[1])
        if parts is None:
            return Box((None, None, None), self.dense(values, whole(box, base_in, rows.image)))
        spatial, delta, padding = self._delta(box, site, rows.image)
        kind = torch.promote_types(base_out.dtype, delta.dtype)
        delta, weight = delta.to(kind), self.kept_weight(site).to(kind)

        def convolved(part: Tensor, of: Taps) -> Tensor:
            return convolve(
                part,
                weight[of.outputs, of.inputs],
                stride=self.stride,
                padding=padding,
                dilation=self.dilation,
                groups=of.groups,
            )

        first = box.origin[0]
        if first is None or len(parts) == 1:
            ((_, of),) = parts
            out = convolved(delta, of)
            begin = torch.full_like(rows.image, of.outputs.start)
        else:
            mine = [(first == c).nonzero()[:, 0] for c, _ in parts]
            made = [convolved(picked(delta, m), of) for m, (_, of) in zip(mine, parts, strict=True)]
            out = made[0].new_empty((len(rows), *made[0].shape[1:]))
            begin = torch.empty_like(first)
            for where, part, (_, of) in zip(mine, made, parts, strict=True):
                out.index_copy_(0, where, part)
                begin[where] = of.outputs.start
        origin = (None if out.shape[1] == base_out.shape[1] else begin, *spatial)
        out = out.add_(take(base_out, rows.image, origin, out.shape[1:]))
        return Box(origin, self.held(out))

    def _parts(self, box: Box, inputs: int, outputs: int) -> list[tuple[int, Taps]] | None:
        """Return by the channel that boxes begin with the weights that see them.

        None where some boxes share a group with channels that are not in them.
        """
        first, count = box.origin[0], box.size[0]
        begins = [0] if first is None else torch.unique(first).tolist()
        found = [(c, taps(c, count, inputs, outputs, self.groups)) for c in begins]
        known = [(c, t) for c, t in found if t is not None]
        return known if len(known) == len(found) else None

    def _delta(
        self, box: Box, site: Site, image: Tensor
    ) -> tuple[tuple[Tensor | None, Tensor | None], Tensor, tuple[int, int]]:
        """Return where outputs change, the input's change that they see, and its padding."""
        delta = box.value - take(site.inputs[0], image, box.origin, box.size)
        if box.origin[1] is None and box.origin[2] is None:
            return (None, None), delta, self.padding
        high, wide = site.values[self.weight].shape[2:]
        window = Window((high, wide), self.stride, self.padding, self.dilation)
        ends, starts, sizes = window.over(box, site.output.shape[2:])
        seen = patch(Box(box.origin, delta), starts, sizes, base=None, image=image, fill=0.0)
        return (ends[0], ends[1]), seen, (0, 0)

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return the largest sum of absolute weights of one output."""
        del shapes
        taps = self.decoded(values).abs().sum((2, 3))
        one = taps.view(self.groups, -1, taps.shape[1]).amax(1).flatten()
        return Growth(float(taps.sum(1).max()), one)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound of the transposed map with absolute weights, and of its norms."""
        channels, *size = shapes[0]
        weight = self.decoded(values).float()
        padded = [n + 2 * p for n, p in zip(size, self.padding, strict=True)]
        taps = weight * after.every[:, None, None, None]
        kernel = taps.new_zeros((*taps.shape[:2], *self._extent(taps)))
        kernel[:, :, :: self.dilation[0], :: self.dilation[1]] = taps
        norms = [convolution(part, padded) for part in kernel.chunk(self.groups)]
        one = torch.cat([alone for _, alone in norms])
        every = one.new_tensor([together for together, _ in norms])
        weights = _transposed(
            (1, *shapes[0]),
            weight.abs(),
            after.weights[None],
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )[0]
        return [
            replace(
                after,
                weights=weights,
                every=every.repeat_interleave(channels // self.groups),
                one=one,
                units=None,
                alike=True,
            )
        ]

    def _extent(self, weight: Tensor) -> tuple[int, int]:
        """Return how many rows and columns one output sees."""
        high, wide = (d * (k - 1) + 1 for d, k in zip(self.dilation, weight.shape[2:], strict=True))
        return high, wide

    def extents(
        self, site: Site, cases: Sequence[Sequence[Change]]
    ) -> tuple[Tensor, Tensor] | None:
        """Return the norms of the input maps, each times the change of its weight."""
        x, out = site.inputs[0], site.output

        def input_of(change: Change) -> int:
            group = change.index[0] // (out.shape[1] // self.groups)
            return change.index[1] + group * (x.shape[1] // self.groups)

        def norm(order: int) -> Tensor:
            maps = self.centered(site.values, x).flatten(2)
            found: Tensor = torch.linalg.vector_norm(maps, ord=order, dim=2)
            return found.t().contiguous()

        places = float(out.shape[2] * out.shape[3])
        one, two = (
            weighted(
                site.keep(f"norm {order}", partial(norm, order)),
                places ** (1 / order),
                self.bias,
                cases,
                lambda c: self.step_of(site, c),
                input_of,
            )
            for order in (1, 2)
        )
        return one, two

    def keeps(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return how many numbers an image are kept: its maps, and two norms of each."""
        return math.prod(shapes[0]) + 2 * shapes[0][0]

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Add to output channels what changes of their weights and biases do."""
        # (inputs, images, height, width): the images of one input lie together
        x = site.keep(
            "maps", lambda: self.centered(site.values, site.inputs[0]).transpose(0, 1).contiguous()
        )
        group_in = x.shape[0] // self.groups
        group_out = site.output.shape[1] // self.groups
        for k, changes in enumerate(cases):
            channel = out[k]
            for change in changes:
                if change.tensor == self.bias:
                    channel.add_(change.by)
                    continue
                o, i, *taps = change.index
                seen = self._seen(taps, tuple(x.shape[2:]), tuple(channel.shape[1:]))
                if seen is None:
                    continue
                (rows_out, rows_in), (columns_out, columns_in) = seen
                part = x[i + o // group_out * group_in, :, rows_in, columns_in].to(out.dtype)
                by = change.by * self.step_of(site, change)
                channel[:, rows_out, columns_out].add_(part, alpha=by)

    def _seen(
        self, taps: Sequence[int], inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> list[tuple[slice, slice]] | None:
        """Return by dimension the outputs that see an input at this tap, and those inputs."""
        found = []
        for d, tap in enumerate(taps):
            offset = tap * self.dilation[d] - self.padding[d]
            first = max(0, -(offset // self.stride[d]))
            last = min(outputs[d], (inputs[d] - 1 - offset) // self.stride[d] + 1)
            if last <= first:
                return None
            begin = first * self.stride[d] + offset
            end = (last - 1) * self.stride[d] + offset + 1
            found.append((slice(first, last), slice(begin, end, self.stride[d])))
        return found
