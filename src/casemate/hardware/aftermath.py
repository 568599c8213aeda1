"""What a deployed model predicts while words of its memory are not what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.hardware.attacks.readings import Watch
from casemate.hardware.cases import changed_words

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from casemate.hardware.cases import Cases
    from casemate.hardware.implementation import Implementation

__all__ = ["Aftermath", "values_under"]


class Aftermath:
    """Predictions on some inputs under many changed words, by full passes.

    What stands before the first node that reads any of the struck tensors is computed once.

    Args:
        deployed: As loaded.
        x: (n, *shape) inputs.
        struck: Positions in the memory of the tensors that may change; all if omitted.
    """

    def __init__(
        self, deployed: Implementation, x: Tensor, struck: Collection[int] | None = None
    ) -> None:
        self._deployed = deployed
        memory, readers = deployed.memory, deployed.graph.readers
        at = range(len(memory.regions)) if struck is None else struck
        names = [memory.regions[i].name for i in at]
        first = min((readers[n][0] for n in names if n in readers), default=0)
        self._watch = Watch(deployed.graph, memory.values, x, first)

    def under(self, case: Cases) -> Tensor:
        """Return (n,) int64 predictions under one case; -1 where a score is no finite number."""
        return self._watch.predictions(values_under(self._deployed, case))


def values_under(deployed: Implementation, case: Cases) -> Mapping[str, Tensor]:
    """Return the numbers of a memory under one case, by name."""
    memory = deployed.memory
    changed = {
        name: memory[name].word.decode(words).view(memory[name].shape)
        for name, words in changed_words(memory, case).items()
    }
    return {**memory.values, **changed}
