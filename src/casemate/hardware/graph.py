"""The deployed network as a list of operations over activations and words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from casemate.hardware.bound import Bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from casemate.hardware.changes import Box, Rows
    from casemate.hardware.growth import Growth

__all__ = ["Change", "Channelwise", "Graph", "Node", "Op", "Site", "listed"]

_NAMED = 5  # in a note
_MOST = 256  # samples that run at once
_NUMBERS = 1 << 23  # of their largest output: 32 MiB of float32


@dataclass(frozen=True)
class Site:
    """One node as it ran without faults on the images of a cache.

    Attributes:
        inputs: Of the node, (images, *shape) each.
        output: (images, *shape).
        values: The memory's numbers.
        kept: What the operation makes of these and needs again and again.
    """

    inputs: tuple[Tensor, ...]
    output: Tensor
    values: Mapping[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)

    def keep(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` makes, made once."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


class Op(Protocol):
    """One operation of a deployed network."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors in memory that it reads."""

    @property
    def masks(self) -> bool:
        """Whether different inputs often give the same output, as a ReLU or rounding does."""

    def dense(self, values: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """Return the output, (b, *shape), of whole inputs."""

    def push(self, site: Site, rows: Rows, boxes: Sequence[Box | None]) -> Box:
        """Return what changes of some inputs do to the output; None is an input without change."""

    def growth(self, values: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> Growth:
        """Return how much larger than a change of the input any sum on the way can be.

        Args:
            values: The memory's numbers.
            shapes: Of the inputs, batch apart.
        """

    def bounds(
        self, values: Mapping[str, Tensor], after: Bound, shapes: Sequence[tuple[int, ...]]
    ) -> Sequence[Bound | None]:
        """Return what changes of each input can weigh.

        Args:
            values: The memory's numbers.
            after: What a change of the output weighs.
            shapes: Of the inputs, batch apart.

        Returns:
            One bound an input; None where there is none.
        """


@dataclass(frozen=True)
class Change:
    """One word's new number.

    Attributes:
        tensor: Name of its tensor.
        index: Of the element.
        value: What it is now.
        by: How much more than before.
    """

    tensor: str
    index: tuple[int, ...]
    value: float
    by: float


@runtime_checkable
class Channelwise(Protocol):
    """An operation with tensors whose element (o, ...) acts on output channel o alone."""

    def row(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether that tensor is one of them, where the output has this shape."""

    def extents(
        self, site: Site, cases: Sequence[Sequence[Change]]
    ) -> tuple[Tensor, Tensor] | None:
        """Return how large the output's change can be, if that is known without computing it.

        Args:
            site: Where the operation ran.
            cases: As for `renew`.

        Returns:
            (cases, images) each: no smaller than the sum of the change's sizes, and its Euclidean
            norm.
        """

    def renew(self, site: Site, cases: Sequence[Sequence[Change]], out: Tensor) -> None:
        """Turn output channels into what they are with changed words.

        Args:
            site: Where the operation ran.
            cases: Of each case the changes of words of one channel.
            out: (cases, images, ...) the channels as they were, in a type that holds the new ones.
        """

    def keeps(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return how many numbers an image `extents` and `renew` keep of a site for the next time.

        Args:
            shapes: Of the inputs, batch apart.
        """


@dataclass(frozen=True)
class Node:
    """One operation in its place.

    Attributes:
        name: Unique; that of the module where one stands behind it.
        op: The operation.
        inputs: Positions of the nodes that it takes; -1 is the network's input.
        shape: Of one sample's output.
        holds: Kind of word that holds each number of the output on the device, such as "float32",
            "int8", or "int32" for an accumulator.
    """

    name: str
    op: Op
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    holds: str = "float32"


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        nodes: In the order in which they run; the last one gives the scores.
        shape: Of one input.
        holds: Kind of word of one input.
        notes: What its owner should know, one sentence each.
        exact: Whether all sums are of integers, so that their order does not matter.
    """

    nodes: tuple[Node, ...]
    shape: tuple[int, ...]
    holds: str = "float32"
    notes: tuple[str, ...] = field(default=())
    exact: bool = False

    def batch(self, numbers: int = _NUMBERS) -> int:
        """Return how many samples run through it at once, so that memory is bounded.

        Args:
            numbers: That their largest output has at most, where there is more than one sample.
        """
        return max(1, min(_MOST, numbers // max(1, self.largest)))

    @cached_property
    def largest(self) -> int:
        """How many numbers the largest output has for one sample, the input among them."""
        return max(math.prod(shape) for shape in (self.shape, *(n.shape for n in self.nodes)))

    @cached_property
    def readers(self) -> dict[str, tuple[int, ...]]:
        """Which nodes read each tensor of the memory."""
        found: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in node.op.tensors:
                found.setdefault(name, []).append(i)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def takers(self) -> dict[int, tuple[int, ...]]:
        """Which nodes take the output of each node, ascending; one twice that takes it twice.

        The network's input is the output of node -1.
        """
        found: dict[int, list[int]] = {j: [] for j in range(-1, len(self.nodes))}
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                found[j].append(i)
        return {j: tuple(nodes) for j, nodes in found.items()}

    def last_use(self, node: int) -> int:
        """Return the position of the last node that takes an output; of the scores: the end."""
        end = len(self.nodes)
        return end if node == end - 1 else max(self.takers[node], default=-1)

    def needed(self, first: int) -> set[int]:
        """Return the positions of the nodes before one whose output it or a later one takes."""
        return {j for node in self.nodes[first:] for j in node.inputs if 0 <= j < first}

    def shapes(self, node: Node) -> list[tuple[int, ...]]:
        """Return the shapes of a node's inputs."""
        return [self.shape if j < 0 else self.nodes[j].shape for j in node.inputs]

    def forward(self, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return the scores, (b, classes), of (b, *shape) inputs."""
        return self.resume(values, x, 0, {})

    def resume(
        self,
        values: Mapping[str, Tensor],
        x: Tensor,
        first: int,
        known: Mapping[int, Tensor],
        edited: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the scores where all nodes before `first` are known.

        Args:
            values: The memory's numbers.
            x: (b, *shape) inputs.
            first: Position of the first node to run.
            known: (b, *shape) outputs of the nodes before it that later ones take.
            edited: Returns what becomes of a node's output before others take it.
        """
        outputs = dict(known)
        outputs[-1] = x
        out = outputs.get(len(self.nodes) - 1, x)
        for i in range(first, len(self.nodes)):
            node = self.nodes[i]
            out = node.op.dense(values, *(outputs[j] for j in node.inputs))
            outputs[i] = out = out if edited is None else edited(i, out)
            for j in set(node.inputs):
                if j >= 0 and self.last_use(j) == i:
                    outputs.pop(j, None)
        return out

    def trace(
        self, values: Mapping[str, Tensor], x: Tensor, seen: Callable[[int, Tensor], None]
    ) -> Tensor:
        """Return the scores and show the output of each node as it comes."""

        def shown(i: int, out: Tensor) -> Tensor:
            seen(i, out)
            return out

        return self.resume(values, x, 0, {}, shown)

    def bounds(self, values: Mapping[str, Tensor]) -> list[Bound | None]:
        """Return how far changes of each output can move two scores apart; last the input's.

        Absolute values of weights, or norms of layers, multiplied along all paths to the scores.
        None where no such bound is known.
        """
        # one place more, so that the network's input, -1, has the last one
        bounds: list[Bound | None] = [None] * (len(self.nodes) + 1)
        unbounded = [False] * (len(self.nodes) + 1)
        last = len(self.nodes) - 1
        device = next((v.device for v in values.values()), torch.device("cpu"))
        if len(self.nodes[last].shape) == 1:
            bounds[last] = Bound.of_scores(torch.ones(self.nodes[last].shape, device=device))
        for i in range(last, -1, -1):
            node = self.nodes[i]
            after = None if unbounded[i] else bounds[i]
            if after is not None and not after.is_useful:
                after = None
            before: Sequence[Bound | None]
            if after is None:
                before, bounds[i] = [None] * len(node.inputs), None
            else:
                before = node.op.bounds(values, after, self.shapes(node))
            for j, bound in zip(node.inputs, before, strict=True):
                if bound is None:
                    unbounded[j] = True
                else:
                    held = bounds[j]
                    bounds[j] = bound if held is None else held + bound
        if unbounded[-1]:
            bounds[-1] = None
        return bounds


def listed(names: Sequence[str]) -> str:
    """Return names for a note: the first few, and how many there are besides."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
