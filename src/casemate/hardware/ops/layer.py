"""What layers with weights share: how these are held, and what a changed word is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casemate.hardware.ops.exact import wrapped
from casemate.hardware.ops.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from typing_extensions import Self

    from casemate.hardware.graph import Change, Site

__all__ = ["Layer"]


@dataclass(frozen=True, kw_only=True)
class Layer(Operation):
    """A linear map with weights, in floating point or of integers into accumulators.

    Attributes:
        weight: Name of its weights, (outputs, ...).
        bias: Name of its biases, (outputs,), or None.
        weight_zero: Name of the zero point of its weights, (outputs or 1,), or None for 0.
        weight_scale: Name of the unit of its weights, (outputs or 1,), if it turns them into
            floating-point numbers before it computes.
        input_zero: Name of the zero point of its input, (1,), or None for 0.
        amplitude: The largest size of an input without its zero point, if they are integers.
    """

    weight: str
    bias: str | None = None
    weight_zero: str | None = None
    weight_scale: str | None = None
    input_zero: str | None = None
    amplitude: float | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """What it reads."""
        names = (self.weight, self.bias, self.weight_zero, self.weight_scale, self.input_zero)
        return tuple(n for n in names if n is not None)

    def decoded(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weights in the unit of the sums, zero points taken off."""
        weight = values[self.weight]
        shape = (-1, *[1] * (weight.ndim - 1))
        if self.weight_zero is not None:
            weight = weight - values[self.weight_zero].view(shape)
        if self.weight_scale is not None:
            weight = weight * values[self.weight_scale].view(shape)
        return weight

    def held(self, sums: Tensor) -> Tensor:
        """Return what accumulators hold of these sums."""
        return sums if self.amplitude is None else wrapped(sums)

    def plain(self) -> Self:
        """Return the same operation on weights that are decoded already, in floating point."""
        return replace(self, weight_zero=None, weight_scale=None, amplitude=None)

    def row(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether output channel o depends on that tensor by its row o alone."""
        del shape
        return name in (self.weight, self.bias)

    def kept_weight(self, site: Site) -> Tensor:
        """Return the weights without faults as `decoded`, made once."""
        return site.keep("weight", lambda: self.decoded(site.values))

    def biases(self, values: Mapping[str, Tensor]) -> Tensor | None:
        """Return what is added to each output channel, if anything."""
        return None if self.bias is None else values[self.bias]

    def centered(self, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return an input without its zero point."""
        return x if self.input_zero is None else x - values[self.input_zero]

    def step_of(self, site: Site, change: Change) -> float:
        """Return what one step of a changed word is worth in the unit of the sums."""
        if self.weight_scale is None or change.tensor == self.bias:
            return 1.0
        units = site.values[self.weight_scale]
        return float(units[change.index[0] if len(units) > 1 else 0])
