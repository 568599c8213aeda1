"""Operations that join branches: the sum of a residual connection, and concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from casemate.hardware.changes import Box, picked, take, whole
from casemate.hardware.ops.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Site

__all__ = ["Add", "Concat"]


@dataclass(frozen=True)
class Add(Operation):
    """The sum of two tensors of one shape."""

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the sum."""
        del values
        return inputs[0] + inputs[1]

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the sum where one of the two changes."""
        first, second = boxes
        if first is not None and second is not None:
            full = [
                whole(box, base, rows.image)
                for box, base in zip((first, second), site.inputs, strict=True)
            ]
            return Box((None,) * (site.output.ndim - 1), full[0] + full[1])
        box, other = (first, site.inputs[1]) if first is not None else (second, site.inputs[0])
        assert box is not None  # noqa: S101 - one of them changed
        return Box(box.origin, box.value + take(other, rows.image, box.origin, box.size))

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return the same bound for both."""
        del values, shapes
        return [after.times(1.0)] * 2


@dataclass(frozen=True)
class Concat(Operation):
    """Tensors one behind the other along the first dimension of a sample."""

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return all channels."""
        del values
        return torch.cat(inputs, 1)

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the channels that change, from the first to the last."""
        widths = [base.shape[1] for base in site.inputs]
        changed = [i for i, box in enumerate(boxes) if box is not None]
        offset = sum(widths[: changed[0]])
        if len(changed) == 1:
            box = boxes[changed[0]]
            assert box is not None  # noqa: S101 - chosen so
            first = box.origin[0]
            start = torch.full_like(rows.image, offset) if first is None else first + offset
            return Box((start, *box.origin[1:]), box.value)
        parts = []
        for i in range(changed[0], changed[-1] + 1):
            box, base = boxes[i], site.inputs[i]
            parts.append(picked(base, rows.image) if box is None else whole(box, base, rows.image))
        value = torch.cat(parts, 1)
        rest: tuple[None, ...] = (None,) * (site.output.ndim - 2)
        covers = value.shape[1] == site.output.shape[1]
        start_of = None if covers else torch.full_like(rows.image, offset)
        return Box((start_of, *rest), value)

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return each input's part of the bound."""
        del values
        return list(after.parts([shape[0] for shape in shapes]))
