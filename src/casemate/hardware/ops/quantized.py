"""What stands between the integer sums of a deployed network: quantization of activations.

An activation is held as an integer q and stands for scale * (q - zero). Arithmetic is that of ONNX
Runtime's quantized operators: a sum is multiplied in float32, rounded to the nearest integer, ties
to even, moved by the zero point and cut to eight bits. Where a fault makes a scale no finite
number, what is no number at all becomes 0 and what is infinite is cut; processors differ there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from casemate.hardware.changes import Box, take, whole
from casemate.hardware.growth import Growth
from casemate.hardware.ops.elementwise import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["Dequantize", "Lookup", "Quantize", "QuantizedAdd", "Requantize", "Round"]

_LOW, _HIGH = -128.0, 127.0


@dataclass(frozen=True, kw_only=True)
class Quantize:
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
        return _held(inputs[0] / values[self.scale], values[self.zero])

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box quantized."""
        del rows
        (box,) = boxes
        assert box is not None  # noqa: S101 - the only input
        return Box(box.origin, self.dense(site.values, box.value))

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in steps, of which rounding may add one."""
        del shapes
        return [after.rounded().times(1 / values[self.scale].abs())]


@dataclass(frozen=True, kw_only=True)
class Requantize:
    """Sums, or integers of another unit, to integers of this unit.

    Attributes:
        scales: Names of the units whose product is that of the input: of the input of the layer,
            (1,), and of its weights, (channels or 1,).
        scale: Name of the unit of the output, (1,).
        zero: Name of its zero point, (1,).
        input_zero: Name of the zero point of the input, (1,), or None for sums, which have none.
        relu: Whether negative numbers become 0.
    """

    scales: tuple[str, ...]
    scale: str
    zero: str
    input_zero: str | None = None
    relu: bool = False

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        more = () if self.input_zero is None else (self.input_zero,)
        return (*self.scales, self.scale, self.zero, *more)

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return integers in float32."""
        (x,) = inputs
        factor = self._factor(values)
        if len(factor) > 1:
            factor = factor.view(-1, *[1] * (x.ndim - 2))
        return self._of(values, x, factor)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box in the new unit, each channel by its own factor."""
        del rows
        (box,) = boxes
        assert box is not None  # noqa: S101 - the only input
        channels = box.channels()
        factor = self._factor(site.values)
        if channels is None or len(factor) == 1:
            return Box(box.origin, self.dense(site.values, box.value))
        shape = (*channels.shape, *[1] * (box.value.ndim - 2))
        return Box(box.origin, self._of(site.values, box.value, factor[channels].view(shape)))

    def row(self, name: str) -> bool:
        """Return whether output channel o depends on that tensor by its row o alone."""
        return name == self.scales[-1] and len(self.scales) > 1

    def extents(
        self, site: Site, cases: Sequence[Sequence[Change]]
    ) -> tuple[Tensor, Tensor] | None:
        """Return nothing: another unit changes a channel in ways that are not bounded here."""
        del site, cases
        return None

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Turn channels into what they are with another unit of their weights."""
        for (change,), channel in zip(cases, out, strict=True):
            (o,) = change.index
            new = site.values[change.tensor][o : o + 1].clone().fill_(change.value)
            values = {**site.values, change.tensor: new}
            channel.copy_(self._of(values, site.inputs[0][:, o], self._factor(values)))

    def _factor(self, values: Mapping[str, Tensor]) -> Tensor:
        factor = values[self.scales[0]]
        for name in self.scales[1:]:
            factor = factor * values[name]
        return factor / values[self.scale]

    def _of(self, values: Mapping[str, Tensor], x: Tensor, factor: Tensor) -> Tensor:
        if self.input_zero is not None:
            x = x - values[self.input_zero]
        return _held(x.to(torch.float32) * factor, values[self.zero], relu=self.relu)

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in the input's steps; rounding may add one of the output."""
        del shapes
        return [after.rounded().times(self._factor(values).abs())]


@dataclass(frozen=True, kw_only=True)
class QuantizedAdd:
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
        return _held(first + second, values[self.zero], relu=self.relu)

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

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in the steps of each input; rounding may add one of the output."""
        del shapes
        return [
            after.rounded().times((values[scale] / values[self.scale]).abs())
            for scale in self.scales
        ]


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A function of each element by a table of 256 entries.

    Attributes:
        function: Its name in `FUNCTIONS`.
        input_scale: Name of the unit of the input.
        input_zero: Name of its zero point.
        scale: Name of the unit of the output.
        zero: Name of its zero point.
    """

    function: str
    input_scale: str
    input_zero: str
    scale: str
    zero: str

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(dict.fromkeys((self.input_scale, self.input_zero, self.scale, self.zero)))

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return integers in float32."""
        codes = torch.arange(_LOW, _HIGH + 1, device=inputs[0].device)
        table = FUNCTIONS[self.function][0](
            (codes - values[self.input_zero]) * values[self.input_scale]
        )
        table = _held(table / values[self.scale], values[self.zero])
        return table[(inputs[0] - _LOW).to(torch.int64)]

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the entries of the box."""
        del rows
        (box,) = boxes
        assert box is not None  # noqa: S101 - the only input
        return Box(box.origin, self.dense(site.values, box.value))

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound times the largest slope; rounding may add a step."""
        del shapes
        slope = FUNCTIONS[self.function][1] * values[self.input_scale] / values[self.scale]
        return [after.rounded().times(slope.abs())]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Means of integers back to integers of the same unit."""

    masks = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """None."""
        return ()

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the nearest integers, ties to even."""
        del values
        return _rounded(inputs[0]).clamp(_LOW, _HIGH)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box rounded."""
        del rows
        (box,) = boxes
        assert box is not None  # noqa: S101 - the only input
        return Box(box.origin, self.dense(site.values, box.value))

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the same bound; rounding may add a step."""
        del values, shapes
        return [after.rounded()]


@dataclass(frozen=True, kw_only=True)
class Dequantize:
    """Integers to the numbers that they stand for.

    Attributes:
        scales: Names of the units whose product is that of the input, as for `Requantize`.
        input_zero: Name of the zero point of the input, (1,), or None for sums.
    """

    scales: tuple[str, ...]
    input_zero: str | None = None

    masks = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        return (*self.scales, *(() if self.input_zero is None else (self.input_zero,)))

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return float32 numbers."""
        (x,) = inputs
        factor = self._factor(values)
        if len(factor) > 1:
            factor = factor.view(-1, *[1] * (x.ndim - 2))
        return self._of(values, x, factor)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box, each channel in its own unit."""
        del rows
        (box,) = boxes
        assert box is not None  # noqa: S101 - the only input
        channels, factor = box.channels(), self._factor(site.values)
        if channels is None or len(factor) == 1:
            return Box(box.origin, self.dense(site.values, box.value))
        shape = (*channels.shape, *[1] * (box.value.ndim - 2))
        return Box(box.origin, self._of(site.values, box.value, factor[channels].view(shape)))

    def growth(self, values: Mapping[str, Tensor]) -> Growth:
        """Return infinity: integers are followed exactly and need no such bound."""
        del values
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in steps."""
        del shapes
        factor = self._factor(values).abs()
        before = after.times(factor)
        units = None if after.units is None else after.units * factor
        return [replace(before, units=units)]

    def _factor(self, values: Mapping[str, Tensor]) -> Tensor:
        factor = values[self.scales[0]]
        for name in self.scales[1:]:
            factor = factor * values[name]
        return factor

    def _of(self, values: Mapping[str, Tensor], x: Tensor, factor: Tensor) -> Tensor:
        if self.input_zero is not None:
            x = x - values[self.input_zero]
        return x.to(torch.float32) * factor


def _held(scaled: Tensor, zero: Tensor, *, relu: bool = False) -> Tensor:
    """Return what eight bits hold of numbers in units of the output."""
    moved = _rounded(scaled).nan_to_num_(0.0, torch.inf, -torch.inf).add_(zero)
    moved.clamp_(_LOW, _HIGH)
    return torch.maximum(moved, zero) if relu else moved


def _rounded(x: Tensor) -> Tensor:
    """Return the nearest integers, ties to even, through which a gradient passes as it is."""
    if torch.is_grad_enabled() and x.requires_grad:
        rounded: Tensor = _Rounding.apply(x)  # type: ignore[no-untyped-call]
        return rounded
    return x.round()


class _Rounding(torch.autograd.Function):
    """Rounding with the slope of the identity (Bengio et al., arXiv 1308.3432)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        del ctx
        return grad
