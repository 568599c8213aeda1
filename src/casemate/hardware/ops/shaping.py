"""Operations that move elements and leave their values: flatten and view."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.hardware.changes import Box, whole
from casemate.hardware.ops.operation import Operation, only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Site

__all__ = ["Reshape"]


@dataclass(frozen=True)
class Reshape(Operation):
    """Another shape of the same elements in the same order.

    Attributes:
        shape: Of one sample's output.
    """

    shape: tuple[int, ...]

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the elements in the new shape."""
        del values
        return inputs[0].reshape(-1, *self.shape)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box where it then lies: whole channels stay together in a flat output."""
        box = only(boxes)
        first, *rest = box.origin
        if len(self.shape) == 1 and first is not None:
            if any(o is not None for o in rest):  # the channel's other elements as they were
                full = whole(box, site.inputs[0], rows.image)
                held = first[:, None] + first.new_tensor(range(box.size[0]))
                index = held.view(len(rows), -1, *[1] * len(rest))
                value = full.gather(1, index.expand(-1, -1, *full.shape[2:]))
            else:
                value = box.value
            each = math.prod(site.inputs[0].shape[2:])
            return Box((first * each,), value.flatten(1))
        full = whole(box, site.inputs[0], rows.image)
        return Box((None,) * len(self.shape), full.reshape(-1, *self.shape))

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the bound in the old shape."""
        del values
        return [after.reshaped(shapes[0])]
