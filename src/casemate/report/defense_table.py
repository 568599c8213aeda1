"""Attacks on training against defenses: what is left of each attack, and at what accuracy."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED
from casemate.report import formats
from casemate.report.defense_costs import DefenseCost, defense_cost
from casemate.report.facts import SUCCESS, Facts, State, share_key
from casemate.report.poisonings import ACCURACY, NULL, SEED
from casemate.report.standing import NOTHING, STANDING, Standing, column, names, standing
from casemate.report.systems import systems
from casemate.report.text import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning
    from casemate.report.systems import System
    from casemate.stats import Measurement

__all__ = ["NOT_ASKED", "AttackRow", "Cell", "DefenseTable", "defense_tables"]

NOT_ASKED = "not asked"
_ERROR = 160
"""Characters of an error, which may come from the user's own code, in a cell."""
_NONE = Standing(name="none", words="none")
_SMALL = {
    "precision of removal": "precision",
    "recall of removal": "recall",
    "area under the curve": "area under the curve",
    "certified poisons": "certified poisons",
    FLAGGED: "backdoor flagged",
    NAMED: "target named",
    FALSE_FLAG: "flagged falsely",
    "epsilon": "epsilon",
    "monitor detection": "detected",
    "monitor false alarms": "false alarms",
    "monitor area under the curve": "area under the curve of the monitor",
    "monitor detection without the attack": "detected on a clean model",
    "monitor area under the curve without the attack": "area under the curve on a clean model",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One attack against one defense.

    Attributes:
        row: Its trials, or None for a pair that the campaign did not ask for.
        success: What the attack achieves after all, over the seeds; None of those without a goal
            and where it was not measured.
        accuracy: Clean accuracy, over the seeds.
        small: What else was measured of the defense, in words with their figures.
        notes: What became of trials that did not end well; never empty where there is no figure.
        evaded: What stands there that the attack's paper claims to get past, by name.
    """

    row: Poisoning | None
    success: Measurement | None = None
    accuracy: Measurement | None = None
    small: tuple[tuple[str, Measurement], ...] = ()
    notes: tuple[str, ...] = (NOT_ASKED,)
    evaded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One attack against all defenses.

    Attributes:
        first: Any of its trials; None for the row without an attack that nobody asked for.
        clean_model: How often a model trained without attack and defense falls for the same
            trigger; None where there is nothing to fall for, or nothing was measured.
        cells: One a defense, in the order of the columns.
    """

    first: Facts | None
    clean_model: Measurement | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class DefenseTable:
    """All attacks and defenses on one system.

    Attributes:
        system: What sets the system apart from others of the campaign, or empty.
        columns: What stands between attacker and user; the first is "none".
        rows: One an attack; the first is that without any.
        costs: Of the defenses at training, in the order of the columns.
    """

    system: str
    columns: tuple[Standing, ...]
    rows: tuple[AttackRow, ...]
    costs: tuple[DefenseCost, ...]


def defense_tables(rows: Sequence[Poisoning]) -> tuple[DefenseTable, ...]:
    """Return one table for each system that something defends or watches."""
    return tuple(
        _table(system)
        for system in systems(rows)
        if any(row.first.defense or row.first.monitor for row in system.rows)
    )


def _table(system: System) -> DefenseTable:
    columns: dict[str, Facts] = {}
    attacks: dict[str, dict[str, Poisoning]] = {}
    for row in system.rows:
        name = column(row.first)
        if name != NOTHING:
            columns.setdefault(name, row.first)
        attacks.setdefault(share_key(row.first, *SEED, *STANDING), {})[name] = row
    found = [
        AttackRow(
            first=next(iter(cells.values())).first,
            clean_model=_clean_model(cells),
            cells=tuple(_cell(cells.get(name)) for name in (NOTHING, *columns)),
        )
        for cells in attacks.values()
    ]
    null = [r for r, cells in zip(found, attacks.values(), strict=True) if _null(cells)]
    if not null:
        null = [AttackRow(first=None, clean_model=None, cells=(_cell(None),) * (1 + len(columns)))]
    return DefenseTable(
        system=system.words,
        columns=(_NONE, *standing(list(columns.values()))),
        rows=(*null, *(r for r in found if r not in null)),
        costs=_costs(system),
    )


def _costs(system: System) -> tuple[DefenseCost, ...]:
    groups: dict[str, list[Poisoning]] = {}
    for row in system.rows:
        defense = row.first.trial.settings["training"].get("defense")
        if defense is not None:
            name = json.dumps(defense, sort_keys=True, default=str)
            groups.setdefault(name, []).append(row)
    return tuple(defense_cost(group) for group in groups.values())


def _null(cells: dict[str, Poisoning]) -> bool:
    return next(iter(cells.values())).null


def _clean_model(cells: dict[str, Poisoning]) -> Measurement | None:
    """Return how often the reference falls for the trigger, if possible without any defense."""
    order = [cells[NOTHING]] if NOTHING in cells else []
    order += cells.values()
    return next((row.figures[NULL] for row in order if NULL in row.figures), None)


def _cell(row: Poisoning | None) -> Cell:
    if row is None:
        return Cell(row=None)
    figures, targeted = row.figures, row.first.targeted
    small = [(words, figures[name]) for name, words in _SMALL.items() if name in figures]
    success = figures.get(SUCCESS) if targeted else None
    accuracy = figures.get(ACCURACY)
    notes = _notes(row)
    if targeted and success is None and not notes:
        notes = ("success not measured",)
    if accuracy is None and not notes:
        notes = ("accuracy not measured",)
    return Cell(
        row=row,
        success=success,
        accuracy=accuracy,
        small=tuple(small),
        notes=notes,
        evaded=tuple(n for n in names(row.first) if n in row.first.threat.evades),
    )


def _notes(row: Poisoning) -> tuple[str, ...]:
    """Return what became of the trials that say less than they should, each sentence once."""
    said = Counter(words for f in row.trials if (words := _trouble(f)))
    total = len(row.trials)
    return tuple(
        words if n == total else f"{n:,} of {formats.plural(total, 'seed')}: {words}"
        for words, n in said.items()
    )


def _trouble(facts: Facts) -> str:
    """Return what is wrong with a trial: "failed (why)"; empty where nothing is."""
    trial = facts.trial
    flags = ", ".join(f.id for f in trial.evidence.failed) if trial.evidence is not None else ""
    if facts.state in (State.FAILED, State.NOT_RUN):
        why = cut(trial.error, _ERROR) if trial.error else None
    elif facts.state is State.INCONCLUSIVE:
        why = flags or "; ".join(trial.reasons)
    elif flags:
        return f"low success proves nothing ({flags})"
    else:
        return "victim collapsed, no backdoor" if facts.collapse else ""
    return f"{facts.state.value} ({why})" if why else facts.state.value
