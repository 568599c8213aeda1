"""Random flips that Rowhammer can make, as a placement of faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from casemate.errors import UsageError
from casemate.hardware.parameters import check_whole
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.page_budget import PageBudget
from casemate.hardware.rowhammer.pages import Reach
from casemate.hardware.strata import check_listed

if TYPE_CHECKING:
    from casemate.hardware.memory import Memory
    from casemate.hardware.rowhammer.template import Template

__all__ = ["Hammered"]


@dataclass(frozen=True, kw_only=True)
class Hammered:
    """Random flips that Rowhammer can make on a module whose pages the attacker chooses.

    Drawn for itself, each bit that can flip is as likely as any other; different ones are drawn one
    after another, each as likely as any other that is still possible.

    Attributes:
        template: The module's vulnerable cells.
        most_per_page: Flips a page; as many as fit if None. DeepHammer makes one.
        among: Which bits the attacker cares for.
    """

    template: Template
    most_per_page: int | None = 1
    among: Everywhere = field(default_factory=Everywhere)

    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.most_per_page is not None:
            check_whole("most_per_page", self.most_per_page)

    def population(self, memory: Memory) -> int:
        """Return how many bits can flip, each for itself."""
        return self.reach(memory).population

    def numbers(self, memory: Memory) -> np.ndarray:
        """Return the numbers of all bits that can flip, (population,) int64, ascending.

        Raises:
            UsageError: If there are too many for one array.
        """
        reach = self.reach(memory)
        check_listed(reach.population)
        return np.concatenate(list(reach.pieces()))

    def draw(
        self, memory: Memory, rng: np.random.Generator, n: int, *, replace: bool = True
    ) -> np.ndarray:
        """Return the numbers of random bits, (n,) int64, in random order.

        Raises:
            UsageError: If none can flip, or without replacement no n of them together.
        """
        reach = self.reach(memory)
        if replace:
            return reach.draw(rng, n)
        budget = PageBudget(reach, most_per_page=self.most_per_page)
        if n and not reach.population:
            return reach.draw(rng, n)  # which says that no cell can flip any of them
        chosen = budget.drawn(rng, n)
        if len(chosen) < n:
            raise UsageError(
                f"{n} flips at once do not fit on the Rowhammer template: after "
                f"{len(chosen)}, no bit is left whose page could still be chosen; ask for "
                "fewer, allow more flips a page or profile more pages"
            )
        return chosen

    def reach(self, memory: Memory) -> Reach:
        """Return what can flip, for a search."""
        return Reach(memory, self.template, self.among)
