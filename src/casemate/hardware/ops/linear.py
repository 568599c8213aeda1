"""A fully connected layer, in floating point or of integers into accumulators."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.changes import Box, picked, take, whole
from casemate.hardware.growth import Growth
from casemate.hardware.ops.exact import accumulator
from casemate.hardware.ops.extents import weighted
from casemate.hardware.ops.layer import Layer
from casemate.hardware.ops.operation import only
from casemate.hardware.ops.operator_norm import matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["Linear"]

_SLACK = 1 + 1e-4  # for the rounding of distances
_PLAIN = "donot_use_mm_for_euclid_dist"  # which loses digits of small distances


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A linear map of the last dimension.

    Weights are (outputs, inputs).
    """

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the whole output."""
        (x,) = inputs
        weight, bias = self.decoded(values), self.biases(values)
        kind = torch.promote_types(accumulator(weight, bias, self.amplitude), x.dtype)
        out = F.linear(
            self.centered(values, x).to(kind),
            weight.to(kind),
            None if bias is None else bias.to(kind),
        )
        return self.held(out)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the output's change: the input's change mapped, on top of what was there."""
        box = only(boxes)
        (base_in,), base_out = site.inputs, site.output
        untouched: tuple[None, ...] = (None,) * (base_out.ndim - 1)
        first = box.origin[0]
        if first is None or len(box.origin) > 1:
            return Box(untouched, self.dense(site.values, whole(box, base_in, rows.image)))
        delta = box.value - take(base_in, rows.image, box.origin, box.size)
        kind = torch.promote_types(base_out.dtype, delta.dtype)
        weight = self.kept_weight(site).to(kind).t()
        delta = delta.to(kind)
        out = picked(base_out, rows.image).to(kind)
        if box.size[0] == 1:
            return Box(untouched, self.held(out.addcmul_(delta, weight[first])))
        groups = torch.unique(first).tolist()
        for c in groups:
            columns = weight[c : c + box.size[0]]
            if len(groups) == 1:
                out.addmm_(delta, columns)
            else:
                mine = (first == c).nonzero()[:, 0]
                out.index_add_(0, mine, delta[mine] @ columns)
        return Box(untouched, self.held(out))

    def row(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether output channel o depends on that tensor by its row o alone.

        Where inputs are rows of numbers, such as tokens, each output is a row of all of them.
        """
        return len(shape) == 1 and super().row(name, shape)

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return the largest sum of absolute weights of one output."""
        size = self.decoded(values).abs()
        alone = size.amax(0) if len(shapes[0]) == 1 else None  # else a channel holds many inputs
        return Growth(float(size.sum(1).max()), alone)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound of the transposed map with absolute weights, and of its norms."""
        if len(shapes[0]) > 1:
            return [None]
        weight = self.decoded(values).float()
        if after.units is not None:  # two scores move apart by the difference of their rows
            weight = weight * after.units[:, None]
            columns = weight.amax(0) - weight.amin(0)
            apart = torch.cdist(weight, weight, compute_mode=_PLAIN)
            most = apart.max()
            every = most.expand(len(columns))
            # what was added behind this layer is not of its rows
            pairs = (apart / most * _SLACK).nan_to_num(1.0) if after.plus_norm == 0 else None
            return [
                replace(after, weights=columns, every=every, one=columns, units=None, pairs=pairs)
            ]
        scaled = weight * after.every[:, None]
        columns = scaled.square().sum(0).sqrt()
        return [
            replace(
                after,
                weights=after.weights @ weight.abs(),
                every=torch.full_like(columns, matrix(scaled)),
                one=columns,
                alike=True,
            )
        ]

    def extents(
        self, site: Site, cases: Sequence[Sequence[Change]]
    ) -> tuple[Tensor, Tensor] | None:
        """Return the sizes of the inputs, each times the change of its weight."""
        if site.inputs[0].ndim > 2:  # noqa: PLR2004 - (images, inputs)
            return None
        norms = site.keep(
            "sizes", lambda: self.centered(site.values, site.inputs[0]).abs().t().contiguous()
        )
        total = weighted(norms, 1.0, self.bias, cases, lambda c: self.step_of(site, c))
        return total, total

    def keeps(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return how many numbers an image are kept: its features, and their sizes."""
        return 2 * math.prod(shapes[0])

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Add to output channels what changes of their weights and biases do."""
        first = site.inputs[0].ndim - 1
        # (inputs, images, ...): the images of one input lie together
        x = site.keep(
            "columns",
            lambda: self.centered(site.values, site.inputs[0]).movedim(first, 0).contiguous(),
        )
        for step in range(max(map(len, cases))):  # the first change of each case, the second, ...
            mine = [k for k, changes in enumerate(cases) if len(changes) > step]
            changes = [cases[k][step] for k in mine]
            kept = [c.tensor == self.bias for c in changes]
            by = torch.tensor(
                [c.by * self.step_of(site, c) for c in changes], dtype=torch.float64
            ).to(out)
            by = by.view(-1, *[1] * (out.ndim - 1))
            which = [0 if b else c.index[1] for b, c in zip(kept, changes, strict=True)]
            seen = x[torch.tensor(which, device=x.device)].to(out.dtype)
            if any(kept):
                seen[torch.tensor(kept, device=x.device)] = 1.0
            if len(mine) == len(cases):
                out.addcmul_(seen, by)
            else:
                out[torch.tensor(mine, device=x.device)] += seen * by
