"""How much a deployed network computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear

if TYPE_CHECKING:
    from casemate.hardware.implementation import Implementation

__all__ = ["multiplications"]


def multiplications(implementation: Implementation) -> int:
    """Return the multiplications of all convolutions and linear layers for one input."""
    values, total = implementation.memory.values, 0
    for node in implementation.graph.nodes:
        if isinstance(node.op, (Conv2d, Linear)):
            # each output number takes one row of weights
            total += math.prod(node.shape) * values[node.op.weight][0].numel()
    return total
