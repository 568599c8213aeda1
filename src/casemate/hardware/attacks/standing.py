"""A deployed model with some bits flipped, on the inputs that an attacker has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from casemate.hardware.attacks.bit_gradients import loss_gradients
from casemate.hardware.attacks.changing_words import ChangingWords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from casemate.hardware.implementation import Implementation
    from casemate.hardware.memory import Memory, Region

__all__ = ["Standing"]


class Standing:
    """The model as it stands, whose every node's output is kept.

    A flip is tried from the first node on that reads its word, and nothing before it runs again.

    Args:
        deployed: Left as it is.
        x: (n, *shape) inputs, all held and run at once.
        regions: Whose bits may flip.

    Attributes:
        regions: Those of them that the network reads.
        first: Position of the first node that reads any.
        forward: Inputs that ran so far; one that ran from some node on counts in full.
        backward: Inputs whose gradient was taken so far.
    """

    def __init__(self, deployed: Implementation, x: Tensor, regions: Sequence[Region]) -> None:
        self._graph, self._x = deployed.graph, x
        self.regions = tuple(r for r in regions if r.name in self._graph.readers)
        self._held = ChangingWords(deployed.memory, self.regions, deployed.reading)
        self._reader = {r.name: self._graph.readers[r.name][0] for r in self.regions}
        self.first = min(self._reader.values(), default=0)
        self.forward, self.backward = 0, 0
        self._outputs: list[Tensor] = []
        self._run(0)

    @property
    def memory(self) -> Memory:
        """The memory without flips."""
        return self._held.memory

    @property
    def words(self) -> Mapping[str, Tensor]:
        """The regions' words as they stand, by name."""
        return self._held.words

    @property
    def values(self) -> Mapping[str, Tensor]:
        """The memory's numbers as they stand, by name."""
        return self._held.values

    @property
    def scores(self) -> Tensor:
        """(n, classes)."""
        return self._outputs[-1]

    def gradients(self, by_score: Tensor) -> dict[str, Tensor]:
        """Return of each region the gradient of a loss, in its shape.

        Args:
            by_score: (n, classes), the loss' gradient with respect to the scores.
        """
        self.backward += len(self._x)
        return loss_gradients(
            self._graph,
            self.values,
            [r.name for r in self.regions],
            self._x,
            by_score,
            first=self.first,
            known=self._known(self.first),
        )

    def tried(self, number: int) -> Tensor:
        """Return the scores, (n, classes), if a bit flipped; the model stays as it is."""
        first = self._reader[self._held.place(number)[0].name]
        self.forward += len(self._x)
        with self._held.trying(number), torch.no_grad():
            return self._graph.resume(self.values, self._x, first, self._known(first))

    def flip(self, number: int) -> None:
        """Flip a bit."""
        self._held.flip(number)
        self._run(self._reader[self._held.place(number)[0].name])

    def _run(self, first: int) -> None:
        """Compute the outputs of all nodes from one on."""
        self.forward += len(self._x)
        del self._outputs[first:]
        with torch.no_grad():
            for node in self._graph.nodes[first:]:
                inputs = [self._x if j < 0 else self._outputs[j] for j in node.inputs]
                self._outputs.append(node.op.dense(self.values, *inputs))

    def _known(self, first: int) -> dict[int, Tensor]:
        """Return what nodes from `first` on take of earlier ones."""
        return {j: self._outputs[j] for j in self._graph.needed(first)}
