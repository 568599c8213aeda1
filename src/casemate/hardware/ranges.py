"""The range of each activation on clean inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.hardware.graph import Graph

__all__ = ["ranges"]


def ranges(graph: Graph, values: Mapping[str, Tensor], x: Tensor) -> dict[int, tuple[float, float]]:
    """Return the lowest and highest value of each node's output, and of the input at -1.

    Args:
        graph: The network.
        values: Its numbers by the name of their tensor.
        x: (n, *shape) inputs, n at least 1.

    Raises:
        UsageError: If an output is not finite.
    """
    found = {-1: (float(x.min()), float(x.max()))}

    def seen(i: int, out: Tensor) -> None:
        low, high = float(out.min()), float(out.max())
        if i in found:
            low, high = min(low, found[i][0]), max(high, found[i][1])
        found[i] = (low, high)

    with torch.no_grad():
        for part in torch.split(x, graph.batch()):
            graph.trace(values, part, seen)
    for i, node in enumerate(graph.nodes):
        if not all(map(math.isfinite, found[i])):
            raise UsageError(
                f"{node.name} gives numbers that are not finite on the inputs to calibrate on, so "
                "it has no range; give other inputs or choose float32"
            )
    return found
