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

    from casemate.hardware.graph import Graph

__all__ = ["Kind", "Sites", "Upsets"]

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


class Sites:
    """All bits of some outputs, numbered one node after another.

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
        found: list[tuple[int, int, int]] = []
        if "input" in kinds and layers is None:
            found.append((-1, math.prod(graph.shape), WORDS[graph.holds].bits))
        for i, node in enumerate(graph.nodes):
            sums = isinstance(node.op, (Conv2d, Linear))
            wanted = ("sum" if sums else "activation") in kinds
            named = layers is None or node.name in layers
            if wanted and named and node.holds in WORDS and not isinstance(node.op, Reshape):
                found.append((i, math.prod(node.shape), WORDS[node.holds].bits))
        if not found:
            raise UsageError(
                f"no output of the deployed model is one of {', '.join(kinds)}"
                + (f" in the layers {', '.join(layers)}" if layers else "")
                + "; ask for other kinds or layers"
            )
        self.nodes = np.array([i for i, *_ in found], dtype=np.int64)
        self._widths = np.array([bits for *_, bits in found], dtype=np.int64)
        self._starts = np.cumsum([0, *(n * bits for _, n, bits in found)])

    @property
    def bits(self) -> int:
        """How many there are for one image."""
        return int(self._starts[-1])

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of bits by number, (n,) in [0, bits), the node, its element and the bit in it."""
        which = np.searchsorted(self._starts, numbers, side="right") - 1
        within = numbers - self._starts[which]
        width = self._widths[which]
        return self.nodes[which], within // width, within % width
