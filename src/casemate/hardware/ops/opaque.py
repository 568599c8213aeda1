"""Any other operation: computed on whole inputs, with no shortcut and no bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.hardware.changes import Box, picked, whole
from casemate.hardware.growth import Growth
from casemate.hardware.ops.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Site

__all__ = ["Opaque"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opaque(Operation):
    """An operation that only its code knows.

    Attributes:
        run: Called with its tensors by name and its inputs, (b, *shape) each.
        tensors: Names of the tensors in memory that it reads.
    """

    run: Callable[..., Tensor]
    tensors: tuple[str, ...] = ()

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return what the code returns."""
        return self.run({name: values[name] for name in self.tensors}, *inputs)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the whole output of the rows."""
        full = [
            picked(base, rows.image) if box is None else whole(box, base, rows.image)
            for box, base in zip(boxes, site.inputs, strict=True)
        ]
        return Box((None,) * (site.output.ndim - 1), self.dense(site.values, *full))

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return infinity: nothing is known."""
        del values, shapes
        return Growth(math.inf)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return no bound."""
        del values, after
        return [None] * len(shapes)
