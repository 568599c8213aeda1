"""How few poisons suffice: the smallest budget tried at which poison buys half of all inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.facts import SUCCESS, share_key
from casemate.report.poisonings import ADDED, NULL, SEED
from casemate.report.systems import systems, undefended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning

__all__ = ["ENOUGH", "Fewest", "fewest"]

ENOUGH = 0.5
"""What poison has to add, the mean over the seeds, to suffice."""

_DIGITS = 9  # the mean of 0.2 and 0.8 is to be 0.5


@dataclass(frozen=True, kw_only=True)
class Fewest:
    """One attack at all of its budgets; all other parameters are the same.

    Attributes:
        system: What sets the system apart from others of the campaign, or empty.
        tried: With a success rate, by the number of poisons.
        reached: The one with the fewest poisons that succeeds often enough, or None.
        below: The one with the next smaller number of poisons, which does not, or None.
        missing: Budgets without a figure.
    """

    system: str
    tried: tuple[Poisoning, ...]
    reached: Poisoning | None
    below: Poisoning | None
    missing: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of poisons tried, rising."""
        return tuple(sorted({row.poisoned for row in self.tried if row.poisoned}))

    @property
    def alone(self) -> bool:
        """Whether poison adds too little because clean models fall for the trigger as well."""
        nulls = [row.figures[NULL].value or 0.0 for row in self.tried if NULL in row.figures]
        return self.reached is None and any(null >= ENOUGH for null in nulls)

    @property
    def words(self) -> str:
        """How many are needed: "between 60 and 180", "at most 10", "not reached with up to 600"."""
        if self.alone:
            return "none: the trigger alone suffices"
        if self.reached is None:
            return f"not reached with up to {self.counts[-1]:,}"
        if self.below is None:
            return f"at most {self.reached.poisoned:,}"
        return f"between {self.below.poisoned:,} and {self.reached.poisoned:,}"


def fewest(rows: Sequence[Poisoning]) -> tuple[Fewest, ...]:
    """Return how few poisons suffice for each attack that wants one class and meets no defense."""
    found = []
    for system in systems(undefended(rows)):
        groups: dict[str, list[Poisoning]] = {}
        for row in system.rows:
            if row.first.targeted:
                key = share_key(row.first, *SEED, "monitor", "training.attack.amount")
                groups.setdefault(key, []).append(row)
        found += [
            one for group in groups.values() if (one := _fewest(system.words, group)) is not None
        ]
    return tuple(found)


def _fewest(system: str, group: Sequence[Poisoning]) -> Fewest | None:
    tried = sorted(
        (row for row in group if SUCCESS in row.figures and row.poisoned),
        key=lambda row: (row.poisoned, -_success(row)),
    )
    if not tried:
        return None
    reached = next((row for row in tried if _success(row) >= ENOUGH), None)
    below = [row for row in tried if reached is not None and _count(row) < _count(reached)]
    return Fewest(
        system=system,
        tried=tuple(tried),
        reached=reached,
        below=below[-1] if below else None,
        missing=len(group) - len(tried),
    )


def _success(row: Poisoning) -> float:
    return round(row.figures[ADDED].value or 0.0, _DIGITS)


def _count(row: Poisoning) -> int:
    return row.poisoned or 0
