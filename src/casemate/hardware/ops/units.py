"""What stands between the integer sums of a deployed network: quantization of activations.

An activation is held as an integer q and stands for scale * (q - zero). Arithmetic is that of ONNX
Runtime's quantized operators: a sum is multiplied in float32, rounded to the nearest integer, ties
to even, moved by the zero point and cut to eight bits. Where a fault makes a scale no finite
number, what is no number at all becomes 0 and what is infinite is cut; processors differ there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from casemate.hardware.changes import Box
from casemate.hardware.ops.eight_bits import HIGH, LOW, held, rounded
from casemate.hardware.ops.operation import Operation, Pointwise, only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["Dequantize", "Quantize", "Requantize", "Round"]


@dataclass(frozen=True, kw_only=True)
class Quantize(Pointwise):
    """Floating-point numbers to the nearest integers that stand for them.

    Attributes:
        scale: Name of the unit, (1,).
        zero: Name of the integer that stands for 0, (1,).
    """

    scale: str
    zero: str

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.scale, self.zero)

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return integers in float32."""
        return held(inputs[0] / values[self.scale], values[self.zero])

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in steps, of which rounding may add one."""
        del shapes
        return [after.rounded().times(1 / values[self.scale].abs())]


@dataclass(frozen=True, kw_only=True)
class _Scaled(Operation):
    """An operation that multiplies each channel by a factor of its own.

    Attributes:
        scales: Names of the units whose product is that of the input: of the input of the layer,
            (1,), and of its weights, (channels or 1,).
        input_zero: Name of the zero point of the input, (1,), or None for sums, which have none.
    """

    scales: tuple[str, ...]
    input_zero: str | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return (*self.scales, *(() if self.input_zero is None else (self.input_zero,)))

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return all channels, each by its own factor."""
        (x,) = inputs
        factor = self.factor(values)
        if len(factor) > 1:
            factor = factor.view(-1, *[1] * (x.ndim - 2))
        return self.of(values, x, factor)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box, each channel by its own factor."""
        del rows
        box = only(boxes)
        channels, factor = box.channels(), self.factor(site.values)
        if channels is None or len(factor) == 1:
            return Box(box.origin, self.dense(site.values, box.value))
        shape = (*channels.shape, *[1] * (box.value.ndim - 2))
        return Box(box.origin, self.of(site.values, box.value, factor[channels].view(shape)))

    def factor(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the factors, (channels or 1,): the product of the units."""
        factor = values[self.scales[0]]
        for name in self.scales[1:]:
            factor = factor * values[name]
        return factor

    def of(self, values: Mapping[str, Tensor], x: Tensor, factor: Tensor) -> Tensor:
        """Return integers without their zero point times factors that fit them, in float32."""
        if self.input_zero is not None:
            x = x - values[self.input_zero]
        return x.to(torch.float32) * factor


@dataclass(frozen=True, kw_only=True)
class Requantize(_Scaled):
    """Sums, or integers of another unit, to integers of this unit.

    Attributes:
        scale: Name of the unit of the output, (1,).
        zero: Name of its zero point, (1,).
        relu: Whether negative numbers become 0.
    """

    scale: str
    zero: str
    relu: bool = False

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return (*super().tensors, self.scale, self.zero)

    def row(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether output channel o depends on that tensor by its row o alone."""
        del shape
        return name == self.scales[-1] and len(self.scales) > 1

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Turn channels into what they are with another unit of their weights."""
        for (change,), channel in zip(cases, out, strict=True):
            (o,) = change.index
            new = site.values[change.tensor][o : o + 1].clone().fill_(change.value)
            values = {**site.values, change.tensor: new}
            channel.copy_(self.of(values, site.inputs[0][:, o], self.factor(values)))

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in the input's steps; rounding may add one of the output."""
        del shapes
        return [after.rounded().times(self.factor(values).abs())]

    def factor(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return how many steps of the output one of the input is."""
        return super().factor(values) / values[self.scale]

    def of(self, values: Mapping[str, Tensor], x: Tensor, factor: Tensor) -> Tensor:
        """Return integers in float32."""
        return held(super().of(values, x, factor), values[self.zero], relu=self.relu)


@dataclass(frozen=True, kw_only=True)
class Dequantize(_Scaled):
    """Integers to the numbers that they stand for."""

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in steps."""
        del shapes
        factor = self.factor(values).abs()
        before = after.times(factor)
        units = None if after.units is None else after.units * factor
        return [replace(before, units=units)]


@dataclass(frozen=True, kw_only=True)
class Round(Pointwise):
    """Means of integers back to integers of the same unit."""

    masks = True

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the nearest integers, ties to even."""
        del values
        return rounded(inputs[0]).clamp(LOW, HIGH)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the same bound; rounding may add a step."""
        del values, shapes
        return [after.rounded()]
