"""Words of a deployed model whose bits flip one after another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from casemate.hardware.defenses.guarding import Reading
    from casemate.hardware.memory import Memory, Region

__all__ = ["ChangingWords"]


class ChangingWords:
    """Words and what they stand for, kept up to date in place.

    Args:
        memory: Left as it is.
        regions: Whose bits may flip.
        reading: How their words are read, if not as they are.

    Attributes:
        words: The regions' words, by name, (n,) of their carrier type.
        values: All of the memory's numbers, by name, as they stand.
    """

    def __init__(
        self, memory: Memory, regions: Sequence[Region], reading: Reading | None = None
    ) -> None:
        self.memory = memory
        self.words = {r.name: r.words.clone() for r in regions}
        self.values = {**memory.values, **{r.name: r.values.clone() for r in regions}}
        self._reading = reading

    def place(self, number: int) -> tuple[Region, int, int]:
        """Return the region of a bit by number, its word in that, and which bit of the word."""
        (region,), (word,), (bit,) = (a.tolist() for a in self.memory.locate(np.array([number])))
        return self.memory.regions[region], word, bit

    @contextmanager
    def trying(self, number: int) -> Iterator[None]:
        """Have a bit flipped until leaving."""
        region, word, bit = self.place(number)
        numbers = self.values[region.name].view(-1)
        before = numbers[word].clone() if self._reading is None else numbers.clone()
        self.flip(number)
        try:
            yield
        finally:
            raw = self._raw(region, word) ^ (1 << bit)
            self.words[region.name][word] = region.word.carried(raw)[0]
            if self._reading is None:
                numbers[word] = before
            else:
                numbers.copy_(before)

    def flip(self, number: int) -> None:
        """Flip a bit."""
        region, word, bit = self.place(number)
        raw = self._raw(region, word) ^ (1 << bit)
        words, numbers = self.words[region.name], self.values[region.name].view(-1)
        words[word] = region.word.carried(raw)[0]
        if self._reading is None:
            numbers[word] = region.word.of_raw(raw)[0]
        else:
            numbers.copy_(self._reading.values(region, words))

    def _raw(self, region: Region, word: int) -> Tensor:
        return region.word.raw(self.words[region.name][word : word + 1])
