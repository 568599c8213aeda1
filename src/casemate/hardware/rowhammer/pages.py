"""Which bits flip on the pages that a model lies on, and on those that it could lie on.

A bit can flip if a cell lies at its place in the page and the bit has the value that the cell
leaves. The place in the page is given, but the attacker chooses for each page of the model's file
on which profiled page it lies, each of which holds one (Yao et al., "DeepHammer", USENIX Security
2020).

Ours: the model's memory is one file that starts at a page; a hammered cell always flips; and where
the attacker chooses, other cells of the page are spared. `reachable` says what flips where not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from casemate.errors import UsageError
from casemate.hardware.distinct import distinct
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.template import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.hardware.memory import Memory
    from casemate.hardware.rowhammer.template import Template

__all__ = ["Reach", "laid_out", "page_count", "reachable"]

_PIECE = 1 << 20  # bytes looked at together
_DRAWN = 1 << 10  # bits drawn together
_ONES = np.array([i.bit_count() for i in range(256)], dtype=np.uint8)

# the last reach of each memory that is still in use: drawing flips asks for it again and again
_REACHES: WeakKeyDictionary[Memory, tuple[object, np.ndarray, np.ndarray]] = WeakKeyDictionary()


def page_count(memory: Memory) -> int:
    """Return how many pages the model takes."""
    return -(-memory.bytes // PAGE)


def laid_out(
    memory: Memory, template: Template, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return on which profiled page each page of the model lies, (model's pages,) int64.

    Args:
        memory: The model's.
        template: The module's.
        rng: Pages are drawn by it, each set in each order as likely; if omitted, the model lies on
            the first pages in order.

    Raises:
        UsageError: If the model has more pages than were profiled.
    """
    needed = page_count(memory)
    if needed > template.pages:
        raise UsageError(
            f"the deployed model takes {needed} pages of {PAGE} bytes, but the Rowhammer template "
            f"was profiled for {template.pages}; profile at least {needed} pages"
        )
    return np.arange(needed) if rng is None else distinct(rng, template.pages, needed)


def reachable(
    memory: Memory,
    template: Template,
    pages: np.ndarray,
    *,
    most_per_page: int | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Return the numbers of all bits that flip when every page is hammered, ascending int64.

    Args:
        memory: The model's.
        template: The module's.
        pages: (model's pages,) on which profiled page each lies, none twice; -1 for a page that is
            not hammered. From `laid_out`, or `PageBudget.pages`.
        most_per_page: Of each page no more of its bits, drawn by `rng`; all if omitted.
        rng: Needed with `most_per_page`.

    Raises:
        ValueError: If pages are out of range or there twice, or `rng` is missing.
    """
    laid = np.flatnonzero(pages >= 0)
    on = pages[laid]
    if (
        len(pages) != page_count(memory)
        or len(np.unique(on)) < len(on)
        or (on >= template.pages).any()
    ):
        raise ValueError("each page of the model lies on one profiled page, none of them twice")
    model_page = np.full(template.pages, -1, dtype=np.int64)
    model_page[on] = laid
    page = model_page[template.page]
    number = np.where(page < 0, -1, memory.at(page * PAGE + template.offset, template.bit))
    there = np.flatnonzero(number >= 0)
    there = there[memory.read(number[there]) != template.up[there]]
    if most_per_page is not None:
        if rng is None:
            raise ValueError("which bits of a page flip is drawn by rng")
        there = rng.permutation(there)
        there = there[np.argsort(page[there], kind="stable")]
        rank = np.arange(len(there)) - np.searchsorted(page[there], page[there])
        there = there[rank < most_per_page]
    return np.sort(number[there])


class Reach:
    """The bits that can flip, each for itself, if the attacker chooses pages.

    It takes as many bytes as the model's memory.

    Args:
        memory: The model's.
        template: The module's.
        among: Which bits the attacker cares for.

    Raises:
        UsageError: If a layer does not exist.
    """

    def __init__(self, memory: Memory, template: Template, among: Everywhere | None = None) -> None:
        self.memory = memory
        self.template = template
        among = among or Everywhere()
        name = (template.digest, among)
        known = _REACHES.get(memory)
        if known is None or known[0] != name:
            known = _REACHES[memory] = (name, *_marked(memory, template, among))
        _, self._marks, self._ends = known

    @property
    def population(self) -> int:
        """How many bits."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def allowed(self, numbers: np.ndarray) -> np.ndarray:
        """Return of bits by number whether they can flip, (n,) bool."""
        byte, bit = self.memory.addresses(numbers)
        can: np.ndarray = ((self._marks[byte] >> bit.astype(np.uint8)) & 1) == 1
        return can

    def sites(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return of bits by number the model's page, and the code of cells that flip them."""
        byte, bit = self.memory.addresses(numbers)
        return byte // PAGE, 2 * (8 * (byte % PAGE) + bit) + (1 - self.memory.read(numbers))

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all bits, ascending, some pages' at a time."""
        for low in range(0, len(self._marks), _PIECE):
            bits = np.unpackbits(self._marks[low : low + _PIECE], bitorder="little")
            place = np.flatnonzero(bits)
            yield self.memory.at(low + place // 8, place % 8)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return the numbers of n bits, each drawn for itself, (n,) int64.

        Raises:
            UsageError: If there are none.
        """
        if n and not self.population:
            raise UsageError(
                "no cell of the Rowhammer template can flip a bit of the chosen tensors; profile "
                "more pages, or choose other roles or layers"
            )
        rank = rng.integers(0, max(1, self.population), n)
        parts = [self._at(rank[i : i + _DRAWN]) for i in range(0, n, _DRAWN)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def _at(self, rank: np.ndarray) -> np.ndarray:
        """Return the numbers of the bits that are `rank`-th, counted from 0."""
        page = np.searchsorted(self._ends, rank, side="right")
        rank = rank - np.concatenate([[0], self._ends])[page]
        held = self._marks.reshape(-1, PAGE)[page]
        up_to = np.cumsum(_ONES[held], axis=1, dtype=np.int64)
        byte = (up_to <= rank[:, None]).sum(1)
        row = np.arange(len(rank))
        rank = rank - up_to[row, byte] + _ONES[held[row, byte]]
        bits = np.unpackbits(held[row, byte][:, None], axis=1, bitorder="little")
        bit = (np.cumsum(bits, axis=1) <= rank[:, None]).sum(1)
        return self.memory.at(page * PAGE + byte, bit)


def _marked(memory: Memory, template: Template, among: Everywhere) -> tuple[np.ndarray, np.ndarray]:
    """Return (model's pages * 4096,) uint8, its bytes with 1 for each bit that can flip.

    And (model's pages,) int64, how many such bits there are up to the end of each page.
    """
    masks = np.zeros((2, PAGE), dtype=np.uint8)  # bits that some cell sets to 0, and to 1
    cell = np.left_shift(1, template.bit).astype(np.uint8)
    np.bitwise_or.at(masks, (template.up.astype(np.int64), template.offset), cell)
    image = memory.image()
    marks = np.zeros(page_count(memory) * PAGE, dtype=np.uint8)
    for region in among.regions(memory):
        end = region.address + region.bytes
        for low in range(region.address, end, _PIECE):
            high = min(low + _PIECE, end)
            down, up = masks[:, np.arange(low, high) % PAGE]
            marks[low:high] = (image[low:high] & down) | (~image[low:high] & up)
        if region.bits % 8:
            marks[end - 1] &= (1 << region.bits % 8) - 1
    counts = [
        _ONES[marks[low : low + _PIECE]].reshape(-1, PAGE).sum(1, dtype=np.int64)
        for low in range(0, len(marks), _PIECE)
    ]
    return marks, np.cumsum(np.concatenate([np.zeros(0, dtype=np.int64), *counts]))
