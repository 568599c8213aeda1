"""The sum of a residual connection in a network of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.hardware.changes import Box, take, whole
from casemate.hardware.ops.eight_bits import held
from casemate.hardware.ops.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Site

__all__ = ["QuantizedAdd"]


@dataclass(frozen=True, kw_only=True)
class QuantizedAdd(Operation):
    """The sum of two activations, each in its own unit, in the unit of the output.

    Attributes:
        scales: Names of the units of the two.
        zeros: Names of their zero points.
        scale: Name of the unit of the output.
        zero: Name of its zero point.
        relu: Whether negative numbers become 0.
    """

    scales: tuple[str, str]
    zeros: tuple[str, str]
    scale: str
    zero: str
    relu: bool = False

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(dict.fromkeys((*self.scales, *self.zeros, self.scale, self.zero)))

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return integers in float32."""
        first, second = (
            (x - values[zero]) * (values[scale] / values[self.scale])
            for x, scale, zero in zip(inputs, self.scales, self.zeros, strict=True)
        )
        return held(first + second, values[self.zero], relu=self.relu)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the sum where one of the two changes."""
        first, second = boxes
        if first is not None and second is not None:
            both = [
                whole(box, base, rows.image)
                for box, base in zip((first, second), site.inputs, strict=True)
            ]
            return Box((None,) * (site.output.ndim - 1), self.dense(site.values, *both))
        box = first if first is not None else second
        assert box is not None  # noqa: S101 - one of them changed
        other = site.inputs[1 if first is not None else 0]
        beside = take(other, rows.image, box.origin, box.size)
        pair = (box.value, beside) if first is not None else (beside, box.value)
        return Box(box.origin, self.dense(site.values, *pair))

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in the steps of each input; rounding may add one of the output."""
        del shapes
        return [
            after.rounded().times((values[scale] / values[self.scale]).abs())
            for scale in self.scales
        ]
