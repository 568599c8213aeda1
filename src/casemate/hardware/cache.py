"""What each node of a network gave without faults, for the images that faults are tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.hardware.graph import Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.hardware.graph import Graph

__all__ = ["Cache"]

_RUN = 256  # images that run through the network at once


class Cache:
    """Outputs of all nodes on some images.

    Args:
        graph: The network.
        values: The memory's numbers, without faults.
        x: (n, *shape) inputs of the network.
    """

    def __init__(self, graph: Graph, values: Mapping[str, Tensor], x: Tensor) -> None:
        self.graph = graph
        self.values = values
        self.x = x
        held: list[list[Tensor]] = [[] for _ in graph.nodes]
        with torch.no_grad():
            for part in torch.split(x, _RUN):
                graph.trace(values, part, lambda i, out: held[i].append(out))
        self.outputs: list[Tensor] = []
        for parts in held:
            self.outputs.append(parts[0] if len(parts) == 1 else torch.cat(parts))
            parts.clear()
        self._sites = [
            Site(tuple(self.output(j) for j in node.inputs), self.outputs[i], values)
            for i, node in enumerate(graph.nodes)
        ]
        top = self.scores.topk(min(2, self.scores.shape[1]), 1)
        self.labels = self.scores.argmax(1)
        self.margins = top.values[:, 0] - top.values[:, -1]

    @property
    def scores(self) -> Tensor:
        """(n, classes)."""
        return self.outputs[-1]

    def __len__(self) -> int:
        return len(self.x)

    def output(self, node: int) -> Tensor:
        """Return (n, *shape), what the node gave; of -1 the input."""
        return self.x if node < 0 else self.outputs[node]

    def site(self, node: int) -> Site:
        """Return the node's inputs and output."""
        return self._sites[node]


def bytes_per_image(graph: Graph) -> int:
    """Return how many bytes a cache holds for one image."""
    total = 4 * torch.Size(graph.shape).numel()
    for node in graph.nodes:
        total += 4 * torch.Size(node.shape).numel()
    return total
