"""Batch normalization as it is deployed: by the statistics of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.hardware.changes import Box
from casemate.hardware.ops.operation import Operation, only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["BatchNorm"]


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Operation):
    """Normalization of each channel by fixed mean and variance.

    Attributes:
        mean: Name of the running mean, (channels,).
        variance: Name of the running variance.
        weight: Name of the factor, or None for 1.
        bias: Name of what is added, or None for 0.
        eps: Added to the variance.
    """

    mean: str
    variance: str
    weight: str | None = None
    bias: str | None = None
    eps: float = 1e-5

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(n for n in (self.weight, self.bias, self.mean, self.variance) if n is not None)

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return all channels normalized."""
        return F.batch_norm(
            inputs[0],
            values[self.mean],
            values[self.variance],
            None if self.weight is None else values[self.weight],
            None if self.bias is None else values[self.bias],
            training=False,
            eps=self.eps,
        )

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box normalized, each channel by its own figures."""
        del rows
        box = only(boxes)
        channels = box.channels()
        scale, offset = (f.to(box.value.dtype) for f in self.affine(site.values))
        if channels is None and box.value.dtype is torch.float32:
            return Box(box.origin, self.dense(site.values, box.value))
        if channels is None:
            channels = torch.arange(len(scale), device=scale.device)[None]
        shape = (*channels.shape, *[1] * (box.value.ndim - 2))
        scaled = torch.addcmul(offset[channels].view(shape), box.value, scale[channels].view(shape))
        return Box(box.origin, scaled)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound times the factor of each channel."""
        del shapes
        return [after.times(self.affine(values)[0].abs())]

    def row(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether output channel o depends on that tensor by its row o alone."""
        del shape
        return name in self.tensors

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Normalize anew with a channel's changed figures, and keep that channel.

        All channels run, since torch rounds and overflows in another way where there is only one.
        """
        for changes, channel in zip(cases, out, strict=True):
            values = {name: site.values[name] for name in self.tensors}
            for change in changes:
                values[change.tensor] = values[change.tensor].clone()
                values[change.tensor][change.index] = change.value
            channel.copy_(self.dense(values, site.inputs[0])[:, changes[0].index[0]])

    def keeps(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return 0."""
        del shapes
        return 0

    def affine(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what multiplies each channel, and what is added to it, (channels,) both."""
        scale = (values[self.variance] + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * values[self.weight]
        offset = -values[self.mean] * scale
        if self.bias is not None:
            offset = offset + values[self.bias]
        return scale, offset
