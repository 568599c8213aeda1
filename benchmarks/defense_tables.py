"""Print what attacks on training achieve against each defense, over their seeds, for the docs.

    casemate run study:training-defenses --json study.json
    python -m benchmarks.defense_tables study.json

A table for each phase of defenses: a row for each attack, a column for a clean model, which the
same trigger is shown to, one for each defense, and in a cell the success that is left, in per cent;
the row without an attack has the clean accuracy. A last table has what monitors detect, of the
attacked model and of a clean one, and their false alarms. A figure is the mean over seeds with the
interval that the report has; with one seed it is that trial's own figure and interval.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.tables import markdown, show
from benchmarks.training_table import cell, measured, varied_in, words
from casemate import registry

_PHASES = {
    "before": "Before training",
    "during": "During training",
    "after": "After training",
}
_SUCCESS, _ACCURACY = "attack success rate", "clean accuracy"
_NULL = "attack success rate without the attack"
_WATCHED = {
    "": "monitor detection",
    ", clean model": "monitor detection without the attack",
    ", false alarms": "monitor false alarms",
}

Cells = dict[str, dict[str, list[dict[str, Any]]]]


def tables(report: dict[str, Any]) -> str:
    """Return the tables of a JSON report as Markdown.

    Args:
        report: As `casemate run --json` writes it.
    """
    trials = [t for t in report["trials"] if t["settings"].get("training") is not None]
    varied = varied_in([t["settings"]["training"] for t in trials])
    plain: Cells = defaultdict(lambda: defaultdict(list))
    watched: Cells = defaultdict(lambda: defaultdict(list))
    phases: dict[str, list[str]] = defaultdict(list)
    for trial in trials:
        gate, monitor = trial["settings"]["training"], trial["settings"].get("monitor")
        attack = words(gate.get("attack"), varied)
        if monitor is not None:
            watched[attack][monitor["name"]].append(trial)
            continue
        defense = words(gate.get("defense"), varied)
        plain[attack][defense].append(trial)
        if gate.get("defense") is not None:
            of_phase = phases[_phase(gate["defense"]["name"])]
            if defense not in of_phase:
                of_phase.append(defense)
    parts = [
        f"**{title}**\n\n{_table(plain, ['none', *phases[phase]])}"
        for phase, title in _PHASES.items()
        if phases[phase]
    ]
    if watched:
        monitors = list(dict.fromkeys(m for row in watched.values() for m in row))
        parts.append(f"**At run time**\n\n{_watched(watched, monitors)}")
    return "\n\n".join(parts)


def _phase(name: str) -> str:
    phase: str = registry.get("defense", name).phase
    return phase


def _table(cells: Cells, columns: list[str]) -> str:
    rows = []
    for attack, row in cells.items():
        shown = _ACCURACY if attack == "none" else _SUCCESS
        title = "none (clean accuracy)" if attack == "none" else attack
        null = cell([m for t in row.get("none", []) if (m := measured(t, _NULL)) is not None], 1)
        rows.append((title, null, *(_figure(row.get(column, []), shown) for column in columns)))
    return markdown(("attack", "clean model", *columns), rows)


def _watched(cells: Cells, monitors: list[str]) -> str:
    head = [f"{monitor}{what}" for monitor in monitors for what in _WATCHED]
    rows = [
        (
            attack,
            *(_figure(row.get(m, []), name) for m in monitors for name in _WATCHED.values()),
        )
        for attack, row in cells.items()
    ]
    return markdown(("attack", *head), rows)


def _figure(trials: list[dict[str, Any]], name: str) -> str:
    if not trials:
        return "not asked"
    failed = sum(t["status"] == "failed" for t in trials)
    found = [m for t in trials if (m := measured(t, name)) is not None]
    said = cell(found, 1) or ("" if failed else "not measured")
    return said if not failed else f"{said} ({failed} of {len(trials)} failed)".strip()


if __name__ == "__main__":
    show(__doc__, tables)
