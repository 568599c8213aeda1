"""Functions of integers by a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.hardware.ops.eight_bits import HIGH, LOW, held
from casemate.hardware.ops.elementwise import FUNCTIONS
from casemate.hardware.ops.operation import Pointwise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound

__all__ = ["Lookup"]


@dataclass(frozen=True, kw_only=True)
class Lookup(Pointwise):
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
        codes = torch.arange(LOW, HIGH + 1, device=inputs[0].device)
        table = FUNCTIONS[self.function][0](
            (codes - values[self.input_zero]) * values[self.input_scale]
        )
        table = held(table / values[self.scale], values[self.zero])
        # faster than indexing
        where = (inputs[0] - LOW).to(torch.int32)
        return table.index_select(0, where.reshape(-1)).view(where.shape)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound times the largest slope; rounding may add a step."""
        del shapes
        slope = FUNCTIONS[self.function][1] * values[self.input_scale] / values[self.scale]
        return [after.rounded().times(slope.abs())]
