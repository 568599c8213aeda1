"""What each node of a network gave without faults, for the images that faults are tried on."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.errors import UsageError
from casemate.hardware.changes import peaks
from casemate.hardware.graph import Channelwise, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.hardware.graph import Graph

__all__ = ["Cache", "bytes_per_image", "margins"]

_NUMBER = 4  # bytes


class Cache:
    """Outputs of all nodes on some images.

    Args:
        graph: The network.
        values: The memory's numbers, without faults.
        x: (n, *shape) inputs of the network.
        elements: Of the largest output of those that run at once.

    Raises:
        UsageError: If inputs have another shape.
    """

    def __init__(
        self, graph: Graph, values: Mapping[str, Tensor], x: Tensor, elements: int
    ) -> None:
        self.graph = graph
        self.values = values
        if tuple(x.shape[1:]) != tuple(graph.shape):
            raise UsageError(
                f"inputs have the shape {tuple(x.shape[1:])}, but the model was deployed for "
                f"{tuple(graph.shape)}; give a batch of such"
            )
        self.x = x = x.contiguous()  # so that windows can be cut out of it and of the outputs
        self.outputs: list[Tensor] = []
        self._peaks: dict[int, Tensor] = {}
        with torch.no_grad():
            step = graph.batch(elements)
            for first in range(0, len(x), step):
                part = slice(first, first + step)
                graph.trace(values, x[part], partial(self._keep, part))
        self._sites = [
            Site(tuple(self.output(j) for j in node.inputs), self.outputs[i], values)
            for i, node in enumerate(graph.nodes)
        ]
        self.labels = self.scores.argmax(1)
        self.margins = margins(self.scores)

    def _keep(self, part: slice, node: int, out: Tensor) -> None:
        """Hold a node's output for some of the images; the first ones come first."""
        out = out.contiguous()
        if node == len(self.outputs):
            held = out if len(out) == len(self.x) else out.new_empty((len(self.x), *out.shape[1:]))
            self.outputs.append(held)
        if self.outputs[node] is not out:
            self.outputs[node][part] = out

    @property
    def scores(self) -> Tensor:
        """(n, classes)."""
        return self.outputs[-1]

    def __len__(self) -> int:
        return len(self.x)

    def output(self, node: int) -> Tensor:
        """Return (n, *shape), what the node gave; of -1 the input."""
        return self.x if node < 0 else self.outputs[node]

    def peaks(self, node: int) -> Tensor:
        """Return (n, channels), the largest size of a number in each channel of the output."""
        if node not in self._peaks:
            out = self.outputs[node]
            self._peaks[node] = peaks(out.flatten(0, 1)).view(out.shape[:2])
        return self._peaks[node]

    def site(self, node: int) -> Site:
        """Return the node's inputs and output."""
        return self._sites[node]


def margins(scores: Tensor) -> Tensor:
    """Return how far each row's best score is before the second, (rows,); 0 where it is alone.

    Args:
        scores: (rows, classes).
    """
    top = scores.topk(min(2, scores.shape[1]), 1).values
    return top[:, 0] - top[:, -1]


def bytes_per_image(graph: Graph) -> int:
    """Return how many bytes a cache holds for one image, what operations keep there included."""
    total = math.prod(graph.shape)
    for node in graph.nodes:
        total += math.prod(node.shape)
        if isinstance(node.op, Channelwise):
            total += node.op.keeps(graph.shapes(node))
    return _NUMBER * total
