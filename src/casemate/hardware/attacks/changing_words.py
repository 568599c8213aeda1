"""Words of a deployed model whose bits flip one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.hardware.memory import Memory, Region

__all__ = ["ChangingWords"]


class ChangingWords:
    """Words and what they stand for, kept up to date in place.

    Args:
        memory: Left as it is.
        regions: Whose bits may flip.

    Attributes:
        words: The regions' words, by name, (n,) of their carrier type.
        values: All of the memory's numbers, by name, as they stand.
    """

    def __init__(self, memory: Memory, regions: Sequence[Region]) -> None:
        self.memory = memory
        self.words = {r.name: r.words.clone() for r in regions}
        self.values = {**memory.values, **{r.name: r.values.clone() for r in regions}}

    def place(self, number: int) -> tuple[Region, int, int]:
        """Return the region of a bit by number, its word in that, and which bit of the word."""
        (region,), (word,), (bit,) = (a.tolist() for a in self.memory.locate(np.array([number])))
        return self.memory.regions[region], word, bit

    def inverted(self, number: int) -> Tensor:
        """Return the number, (1,), that a bit's word would stand for if the bit flipped."""
        region, word, bit = self.place(number)
        return region.word.of_raw(self._raw(region, word) ^ (1 << bit))

    def flip(self, number: int) -> None:
        """Flip a bit."""
        region, word, bit = self.place(number)
        raw = self._raw(region, word) ^ (1 << bit)
        self.words[region.name][word] = region.word.carried(raw)[0]
        self.values[region.name].view(-1)[word] = region.word.of_raw(raw)[0]

    def _raw(self, region: Region, word: int) -> Tensor:
        return region.word.raw(self.words[region.name][word : word + 1])
