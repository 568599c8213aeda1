"""Targeted trials side by side: one scenario a column, one way to attack and defend a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.report.facts import share_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = ["Scenario", "ScenarioRow", "Scenarios", "scenarios"]


@dataclass(frozen=True, kw_only=True)
class ScenarioRow:
    """Trials that differ in nothing but the goal.

    Attributes:
        first: Any of them; attack, defense and attacker are the same in all.
        cells: One a scenario, None where there is no such trial.
    """

    first: Facts
    cells: tuple[Facts | None, ...]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One goal and all its trials, in the order of the campaign."""

    name: str
    trials: tuple[Facts, ...]


@dataclass(frozen=True, kw_only=True)
class Scenarios:
    """All targeted trials, by goal and across goals."""

    scenarios: tuple[Scenario, ...]
    rows: tuple[ScenarioRow, ...]


def scenarios(facts: Sequence[Facts]) -> Scenarios | None:
    """Return the targeted trials by scenario, or None where no trial has a goal."""
    targeted = [f for f in facts if f.targeted]
    if not targeted:
        return None
    names = list(dict.fromkeys(f.scenario for f in targeted))
    rows: dict[str, dict[str, Facts]] = {}
    for f in targeted:
        # a class has as many samples as it has: their number sets rows apart only where it must
        cells = rows.setdefault(share_key(f, "goal", "samples"), {})
        if f.scenario in cells:
            cells = rows.setdefault(f"{f.number} {share_key(f)}", {})
        cells[f.scenario] = f
    return Scenarios(
        scenarios=tuple(
            Scenario(name=name, trials=tuple(f for f in targeted if f.scenario == name))
            for name in names
        ),
        rows=tuple(
            ScenarioRow(
                first=next(iter(cells.values())), cells=tuple(cells.get(name) for name in names)
            )
            for cells in rows.values()
        ),
    )
