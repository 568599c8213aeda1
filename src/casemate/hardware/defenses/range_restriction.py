"""Range restriction: activations that no clean input gave are cut."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from casemate.errors import ParameterError, UsageError
from casemate.hardware.defenses.cost import Cost
from casemate.hardware.graph import Node
from casemate.hardware.ops.elementwise import Elementwise
from casemate.hardware.ops.joining import Concat
from casemate.hardware.ops.pooling import MapMean, Pool2d
from casemate.hardware.ops.restriction import Restrict
from casemate.hardware.ops.shaping import Reshape
from casemate.hardware.ranges import ranges
from casemate.threats import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.hardware.graph import Graph
    from casemate.hardware.implementation import Implementation

__all__ = ["Ranger"]

_FOLLOWING = (Pool2d, MapMean, Reshape)


@dataclass(frozen=True, kw_only=True)
class Ranger:
    """Cuts what activation functions give to the range that clean inputs gave.

    Chen, Li and Pattabiraman, "A low-cost fault corrector for deep neural networks through range
    restriction", DSN 2021 (arXiv 2003.13874), algorithm 1: the range of each activation function is
    profiled on clean data, and a restriction is put behind it, behind pooling and reshaping that
    follow it with the same range, and behind a concatenation with the widest range of its parts;
    never on the scores. Ours: the range is the lowest and highest value itself, where the authors'
    code rounds it up to a whole number. A network whose activations are integers of eight bits is
    cut to the same ranges by its number format, and is refused.

    It is blind to faults that stay within the range, and to the last layer: that is where an
    attacker who knows it strikes.

    Attributes:
        outside: What a number outside becomes: the nearest end of the range ("end", as the paper
            has it) or 0 ("zero").
    """

    outside: Literal["end", "zero"] = "end"

    stage: ClassVar[Stage] = Stage.HARDWARE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.outside not in ("end", "zero"):
            raise ParameterError(
                "ranger.outside", f'is "{self.outside}", but must be one of end, zero'
            )

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if activations are integers, or no activation function is known."""
        self._check_form(deployed)
        if not any(
            isinstance(n.op, Elementwise) and n.op.function != "identity"
            for n in deployed.graph.nodes[:-1]
        ):
            raise _nothing()

    def cost(self, deployed: Implementation) -> Cost:
        """Return the ends of all ranges, and the comparisons with them."""
        return Cost(bits=self.storage(deployed), operations=self.comparisons(deployed))

    def protected(self, implementation: Implementation, clean: Tensor) -> Implementation:
        """Return the implementation with restrictions.

        Args:
            implementation: In floating point.
            clean: (n, *shape) inputs of the network, n at least 1, not attacked.

        Raises:
            UsageError: If activations are integers, there are no clean inputs, or the network has
                no activation function that is known.
        """
        self._check_form(implementation)
        if not len(clean):
            raise UsageError("ranger needs clean inputs to find ranges on, and there are none")
        graph = implementation.graph
        places = self._places(graph, ranges(graph, implementation.memory.values, clean))
        if not places:
            raise _nothing()
        return replace(implementation, graph=_inserted(graph, places))

    def storage(self, protected: Implementation) -> int:
        """Return the bits of the ends of all ranges, two float32 numbers each."""
        return 64 * sum(isinstance(n.op, Restrict) for n in protected.graph.nodes)

    def comparisons(self, protected: Implementation) -> int:
        """Return how many comparisons one inference takes more."""
        return sum(
            2 * math.prod(n.shape) for n in protected.graph.nodes if isinstance(n.op, Restrict)
        )

    def _check_form(self, implementation: Implementation) -> None:
        if implementation.form.computes_integers:
            raise UsageError(
                "ranger restricts activations in floating point, but the deployed model's are "
                "integers, which their format restricts to the same ranges; choose another defense"
            )

    def _places(self, graph: Graph, found: dict[int, tuple[float, float]]) -> dict[int, Restrict]:
        """Return which nodes are followed by which restriction."""
        places: dict[int, Restrict] = {}
        for i, node in enumerate(graph.nodes[:-1]):
            op = node.op
            before = [places.get(j) for j in node.inputs]
            if isinstance(op, Elementwise) and op.function != "identity":
                low, high = found[i]
                places[i] = Restrict(low=low, high=high, outside=self.outside)
            elif isinstance(op, (*_FOLLOWING, Elementwise)) and before[0] is not None:
                places[i] = before[0]
            elif isinstance(op, Concat):
                parts = [b for b in before if b is not None]
                if len(parts) == len(before):
                    places[i] = Restrict(
                        low=min(p.low for p in parts),
                        high=max(p.high for p in parts),
                        outside=self.outside,
                    )
        return places


def _nothing() -> UsageError:
    return UsageError("ranger found no activation function to restrict; choose another defense")


def _inserted(graph: Graph, places: dict[int, Restrict]) -> Graph:
    """Return the graph with operations behind some of its nodes."""
    nodes: list[Node] = []
    at = {-1: -1}
    for i, node in enumerate(graph.nodes):
        nodes.append(replace(node, inputs=tuple(at[j] for j in node.inputs)))
        if i in places:
            before = len(nodes) - 1
            nodes.append(Node(f"{node.name}.restricted", places[i], (before,), node.shape))
        at[i] = len(nodes) - 1
    return replace(graph, nodes=tuple(nodes))
