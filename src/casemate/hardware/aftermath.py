"""What a deployed model predicts while words of its memory are not what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.hardware.attacks.readings import Watch
from casemate.hardware.cases import changed_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from casemate.hardware.cases import Cases
    from casemate.hardware.implementation import Implementation

__all__ = ["Aftermath"]


class Aftermath:
    """Predictions on some inputs under many changed words, by full passes.

    What stands before the first node that reads any of the changed tensors is computed once.

    Args:
        deployed: As loaded.
        x: (n, *shape) inputs.
        cases: What changes.
    """

    def __init__(self, deployed: Implementation, x: Tensor, cases: Cases) -> None:
        self._deployed, self._cases = deployed, cases
        memory, readers = deployed.memory, deployed.graph.readers
        touched = {memory.regions[r].name for r in set(cases.region.tolist())}
        first = min((readers[n][0] for n in touched if n in readers), default=0)
        self._watch = Watch(deployed.graph, memory.values, x, first)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (n,) int64 predictions case by case; -1 where a score is no finite number."""
        memory = self._deployed.memory
        for c in range(self._cases.count):
            words = changed_words(memory, self._cases.part(c, c + 1))
            values = {
                name: memory[name].word.decode(w).view(memory[name].shape)
                for name, w in words.items()
            }
            yield self._watch.predictions({**memory.values, **values})
