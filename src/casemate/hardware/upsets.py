"""Upsets: words of activations, sums and inputs that are not what was computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from casemate.errors import UsageError, did_you_mean
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.shaping import Reshape
from casemate.hardware.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.graph import Graph
    from casemate.hardware.words import Word

__all__ = ["Kind", "Outputs", "Sites", "Upsets", "rewritten"]

Kind = Literal["input", "sum", "activation"]


@dataclass(frozen=True)
class Upsets:
    """Changed words of activations by case.

    A word w becomes `(w & keep) ^ flip`: keep = all ones and flip = 1 << bit inverts a bit,
    keep = ~(1 << bit) sticks it at 0, with flip = 1 << bit at 1, keep = 0 sets any word.

    Attributes:
        count: How many cases.
        case: (m,) int64, ascending; no word of a node twice in one case.
        node: (m,) position of the node whose output it is; -1 is the network's input.
        element: (m,) of the output of one image, flat.
        keep: (m,) int64.
        flip: (m,) int64.
        image: (count,) int64, the only image that the case strikes: a transient fault in one
            inference. -1 strikes all: a fault that stays.
    """

    count: int
    case: np.ndarray
    node: np.ndarray
    element: np.ndarray
    keep: np.ndarray
    flip: np.ndarray
    image: np.ndarray

    @classmethod
    def inverted(
        cls, node: np.ndarray, element: np.ndarray, bit: np.ndarray, image: np.ndarray | None = None
    ) -> Upsets:
        """Return cases of one inverted bit each, (n,) all; without images they strike all."""
        n = len(node)
        return cls(
            n,
            np.arange(n),
            np.asarray(node, dtype=np.int64),
            np.asarray(element, dtype=np.int64),
            np.full(n, -1, dtype=np.int64),
            np.int64(1) << np.asarray(bit, dtype=np.int64),
            np.full(n, -1) if image is None else np.asarray(image, dtype=np.int64),
        )

    def check(self, graph: Graph, images: int) -> None:
        """Raise `UsageError` if a word or an image is none of this network's.

        Args:
            graph: The deployed network.
            images: How many there are.
        """
        _check_within("node", self.node, -1, len(graph.nodes))
        shapes = [n.shape for n in graph.nodes] + [graph.shape]  # the input's is that of node -1
        holds = [n.holds for n in graph.nodes] + [graph.holds]
        for node in np.unique(self.node).tolist():
            mine = self.node == node
            _check_within("element", self.element[mine], 0, math.prod(shapes[node]))
            _check_within("flip", self.flip[mine], 0, 1 << WORDS[holds[node]].bits)
        _check_within("image", self.image[np.unique(self.case)], -1, images)

    def on(self, low: int, high: int) -> Upsets:
        """Return what strikes images `low` to `high`, counted from 0 again.

        A case that strikes another image is left, without changed words.
        """
        strikes = (self.image < 0) | ((self.image >= low) & (self.image < high))
        mine = strikes[self.case]
        return Upsets(
            self.count,
            self.case[mine],
            self.node[mine],
            self.element[mine],
            self.keep[mine],
            self.flip[mine],
            np.where(self.image < 0, -1, self.image - low),
        )


def _check_within(name: str, values: np.ndarray, low: int, end: int) -> None:
    outside = values[(values < low) | (values >= end)]
    if len(outside):
        raise UsageError(
            f"{name} is {outside[0]} in an upset, but must be from {low} to {end - 1}; "
            "take it from `Sites`"
        )


def rewritten(word: Word, held: Tensor, keep: Tensor, flip: Tensor) -> Tensor:
    """Return numbers whose words are `(w & keep) ^ flip`, int64 both; `held` are the old ones."""
    raw = word.raw(word.encode(held))
    return word.of_raw((raw & keep ^ flip) & ((1 << word.bits) - 1))


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The words of one node's output of one image.

    Attributes:
        node: Its position; -1 is the network's input.
        name: Of the node.
        kind: What they are.
        count: How many words.
        bits: Of each word.
    """

    node: int
    name: str
    kind: Kind
    count: int
    bits: int


class Sites:
    """All bits of some outputs, numbered one node after another.

    Attributes:
        outputs: Which nodes' they are.
        starts: (nodes,) int64, number of each node's first bit.

    Args:
        graph: The deployed network.
        kinds: "input" of the network, "sum" (output of a convolution or linear layer: an
            accumulator), "activation" (output of any other operation that writes words).
        layers: Only outputs of nodes of these names; all if omitted.

    Raises:
        UsageError: If a layer does not exist or nothing is left.
    """

    def __init__(
        self,
        graph: Graph,
        kinds: Sequence[Kind] = ("activation",),
        layers: Sequence[str] | None = None,
    ) -> None:
        names = [n.name for n in graph.nodes]
        for layer in layers or ():
            if layer not in names:
                raise UsageError(
                    f'the deployed model has no layer "{layer}".{did_you_mean(layer, names)}'
                )
        found: list[Outputs] = []
        if "input" in kinds and layers is None:
            found.append(_outputs(-1, "input", "input", graph.shape, graph.holds))
        for i, node in enumerate(graph.nodes):
            kind: Kind = "sum" if isinstance(node.op, (Conv2d, Linear)) else "activation"
            named = layers is None or node.name in layers
            written = node.holds in WORDS and not isinstance(node.op, Reshape)
            if kind in kinds and named and written:
                found.append(_outputs(i, node.name, kind, node.shape, node.holds))
        if not found:
            raise UsageError(
                f"no output of the deployed model is one of {', '.join(kinds)}"
                + (f" in the layers {', '.join(layers)}" if layers else "")
                + "; ask for other kinds or layers"
            )
        self.outputs = tuple(found)
        ends = np.cumsum([o.count * o.bits for o in found])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.bits = int(ends[-1])
        """How many there are for one image."""

    def bits_of_words(self, numbers: np.ndarray) -> np.ndarray:
        """Return of bits by number, (n,) int64, how many bits their words have."""
        bits: np.ndarray = self._widths[self._which(numbers)]
        return bits

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of bits by number, (n,) in [0, bits), the node, its element and the bit in it."""
        which = self._which(numbers)
        within, width = numbers - self.starts[which], self._widths[which]
        nodes = np.array([o.node for o in self.outputs], dtype=np.int64)
        return nodes[which], within // width, within % width

    @property
    def _widths(self) -> np.ndarray:
        widths: np.ndarray = np.array([o.bits for o in self.outputs], dtype=np.int64)
        return widths

    def _which(self, numbers: np.ndarray) -> np.ndarray:
        which: np.ndarray = np.searchsorted(self.starts, numbers, side="right") - 1
        return which


def _outputs(node: int, name: str, kind: Kind, shape: Sequence[int], holds: str) -> Outputs:
    return Outputs(node=node, name=name, kind=kind, count=math.prod(shape), bits=WORDS[holds].bits)
