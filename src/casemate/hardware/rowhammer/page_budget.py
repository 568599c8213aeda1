"""Bits that flip together: pages are chosen so that each can, if there is any choice."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import UsageError
from casemate.hardware.parameters import check_whole
from casemate.hardware.rowhammer.pages import page_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.hardware.rowhammer.pages import Reach

__all__ = ["PageBudget"]

_TRIES = 64  # draws in a row that do not fit before all that still fits is listed


class PageBudget:
    """Bits chosen to flip together, on pages that are chosen so that they can.

    Each page of the model with chosen bits needs a profiled page of its own with a cell for each of
    them. Such an assignment of pages is kept; where a bit needs another page, those in the way move
    along an augmenting path (Berge 1957). So what is said to be impossible is so whatever pages are
    chosen. A search asks `allowed` once and `can_add` before each `add`.

    Args:
        reach: What can flip for itself.
        most_per_page: Flips a page; as many as fit if omitted. DeepHammer makes one.
    """

    def __init__(self, reach: Reach, *, most_per_page: int | None = None) -> None:
        if most_per_page is not None:
            check_whole("most_per_page", most_per_page)
        self.reach = reach
        self.most_per_page = most_per_page
        self._template = reach.template
        self._chosen: dict[int, None] = {}
        self._codes: dict[int, list[int]] = {}  # of chosen bits, by the model's page
        self._options: dict[int, list[int]] = {}  # profiled pages with cells for all of them
        self._page: dict[int, int] = {}  # the one it lies on
        self._holder: dict[int, int] = {}  # which page of the model lies on a profiled page

    def __len__(self) -> int:
        """Return how many bits are chosen."""
        return len(self._chosen)

    @property
    def chosen(self) -> np.ndarray:
        """(n,) int64, the numbers of the chosen bits in the order in which they were."""
        return np.array(list(self._chosen), dtype=np.int64)

    @property
    def pages(self) -> np.ndarray:
        """(model's pages,) int64, on which profiled page each lies; -1 where none is needed."""
        pages = np.full(page_count(self.reach.memory), -1, dtype=np.int64)
        pages[list(self._page)] = list(self._page.values())
        return pages

    def allowed(self, numbers: np.ndarray) -> np.ndarray:
        """Return of bits by number whether they can flip for themselves, (n,) bool."""
        return self.reach.allowed(numbers)

    def can_add(self, number: int) -> bool:
        """Return whether a bit can flip beside those that are chosen."""
        return bool(self.possible(np.array([number]))[0])

    def possible(self, numbers: np.ndarray) -> np.ndarray:
        """Return of bits by number whether each can flip beside those chosen, (n,) bool."""
        numbers = np.asarray(numbers, dtype=np.int64)
        can = self.reach.allowed(numbers) & ~np.isin(numbers, self.chosen)
        page, code = self.reach.sites(numbers)
        touched = np.isin(page, list(self._codes))
        fresh = np.flatnonzero(can & ~touched)
        codes, back = np.unique(code[fresh], return_inverse=True)
        can[fresh] = np.array([self._has_page(c) for c in codes.tolist()], dtype=bool)[back]
        for p in np.unique(page[can & touched]).tolist():
            mine = np.flatnonzero(can & (page == p))
            can[mine] = np.isin(code[mine], self._codes_possible(p))
        return can

    def add(self, number: int) -> None:
        """Choose one more bit.

        Raises:
            UsageError: If that is not possible.
        """
        moves = None
        if self.reach.allowed(np.array([number]))[0] and number not in self._chosen:
            page, code = (int(a[0]) for a in self.reach.sites(np.array([number])))
            if not self._is_full(page):
                options = self._with(page, code)
                moves = self._moves(page, options)
        if moves is None:
            raise UsageError(
                f"{self.reach.memory.fault(number)} cannot flip besides the {len(self)} "
                "chosen bits; choose a bit that is possible"
            )
        self._chosen[number] = None
        self._codes.setdefault(page, []).append(code)
        self._options[page] = options
        for moved in moves:
            self._release(moved)
        for moved, to in moves.items():
            self._page[moved], self._holder[to] = to, moved

    def drawn(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Choose bits at random, one after another, each as likely as any other that is possible.

        Returns:
            The numbers of all chosen bits in the order in which they were, those of before
            included: as many as n, or as fit together if that is less.
        """
        missed = 0
        while len(self) < n and missed < _TRIES and self.reach.population:
            number = int(self.reach.draw(rng, 1)[0])
            missed = 0 if self.can_add(number) else missed + 1
            if not missed:
                self.add(number)
        if len(self) < n:  # what is impossible stays so, thus each is tried once
            left = [numbers[self.possible(numbers)] for numbers in self.reach.pieces()]
            listed = np.concatenate([np.zeros(0, dtype=np.int64), *left])
            for number in rng.permutation(listed).tolist():
                if len(self) < n and self.can_add(number):
                    self.add(number)
        return self.chosen

    def remove(self, number: int) -> None:
        """Take a chosen bit back; the pages of the others stay.

        Raises:
            KeyError: If it is not chosen.
        """
        del self._chosen[number]
        page, code = (int(a[0]) for a in self.reach.sites(np.array([number])))
        left = [c for c in self._codes.pop(page) if c != code]
        del self._options[page]
        if not left:
            self._release(page)
            return
        self._codes[page] = left
        for c in left:
            self._options[page] = self._with(page, c)

    def _release(self, page: int) -> None:
        held = self._page.pop(page, None)
        if held is not None:
            del self._holder[held]

    def _is_full(self, page: int) -> bool:
        chosen = len(self._codes.get(page, ()))
        return self.most_per_page is not None and chosen >= self.most_per_page

    def _with(self, page: int, code: int) -> list[int]:
        """Return the profiled pages with cells for a page's chosen bits and one of that code."""
        options = self._template.pages_with(code)
        if page in self._options:
            options = np.intersect1d(options, self._options[page])
        found: list[int] = options.tolist()
        return found

    def _has_page(self, code: int) -> bool:
        """Return whether a page without chosen bits can lie on a cell of that code."""
        return self._moves(-1, self._template.pages_with(code).tolist()) is not None

    def _codes_possible(self, page: int) -> np.ndarray:
        """Return the codes of cells on all pages that a page with chosen bits can lie on."""
        if self._is_full(page):
            return np.zeros(0, dtype=np.int64)
        found = [
            self._template.codes_on(p)
            for p in self._options[page]
            if self._moves(page, [p]) is not None
        ]
        return np.concatenate(found)

    def _moves(self, page: int, options: Sequence[int]) -> dict[int, int] | None:
        """Return where pages of the model move so that `page` gets one of these, or None."""
        if self._page.get(page) in options:
            return {page: self._page[page]}
        came: dict[int, int] = {}  # which page of the model would lie on it
        queue = deque([(page, options)])
        while queue:
            mover, goals = queue.popleft()
            for goal in goals:
                if goal in came:
                    continue
                came[goal] = mover
                holder = self._holder.get(goal)
                if holder is None or holder == page:
                    return self._path(page, goal, came)
                queue.append((holder, self._options[holder]))
        return None

    def _path(self, page: int, goal: int, came: dict[int, int]) -> dict[int, int]:
        moves = {came[goal]: goal}
        while page not in moves:
            goal = self._page[came[goal]]
            moves[came[goal]] = goal
        return moves
