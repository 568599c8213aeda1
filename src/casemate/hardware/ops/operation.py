"""What operations share, so that each says only what is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.hardware.changes import Box
from casemate.hardware.growth import Growth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.changes import Rows
    from casemate.hardware.graph import Change, Site

__all__ = ["Operation", "Pointwise", "only"]


class Operation:
    """An operation that reads no tensor, masks nothing and sums no more than two numbers."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors in memory that it reads."""
        return ()

    @property
    def masks(self) -> bool:
        """Whether different inputs often give the same output."""
        return False

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return 0: no more than two numbers are summed, which has one order only."""
        del values, shapes
        return Growth(0.0)

    def extents(
        self, site: Site, cases: Sequence[Sequence[Change]]
    ) -> tuple[Tensor, Tensor] | None:
        """Return nothing: how large a channel's change can be is not known before it is made."""
        del site, cases
        return None

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the output, (b, *shape), of whole inputs."""
        raise NotImplementedError


class Pointwise(Operation):
    """An operation that maps each element of its only input by itself, all in the same way."""

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return the box mapped."""
        del rows
        box = only(boxes)
        return Box(box.origin, self.dense(site.values, box.value))


def only(boxes: Sequence[Box | None]) -> Box:
    """Return the change of an operation's only input."""
    (box,) = boxes
    assert box is not None  # noqa: S101 - it would not run otherwise
    return box
