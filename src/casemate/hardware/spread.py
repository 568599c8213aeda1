"""What changes of a network's activations can do on their way to the scores, on any images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.bound import Bound
    from casemate.hardware.graph import Graph
    from casemate.hardware.growth import Growth

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread:
    """Bounds of a network with the numbers that its memory holds without faults.

    Attributes:
        bounds: Of each node's output, and last of the input: how far a change of it can move two
            scores apart; None where no bound is known.
        growth: Of each node: how much larger than a change of its input any of its sums can be.
    """

    bounds: Sequence[Bound | None]
    growth: Sequence[Growth]

    @classmethod
    def of(cls, graph: Graph, values: Mapping[str, Tensor]) -> Spread:
        """Compute it from the memory's numbers."""
        with torch.no_grad():
            growth = [node.op.growth(values, graph.shapes(node)) for node in graph.nodes]
            return cls(graph.bounds(values), growth)
