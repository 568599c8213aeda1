"""Print a table of a campaign's trials at the training gate, over their seeds, for the docs.

    casemate run study:lenet-mnist-training --json study.json
    python -m benchmarks.training_table study.json

One row for each attack and defense. A figure is the mean over seeds with the interval that the
report has; with one seed it is that trial's own figure and interval.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from benchmarks.tables import markdown, said, show
from casemate.report.poisonings import over_seeds
from casemate.report.possible import within_shares
from casemate.stats import Measurement

_ADDED = "added by the poison"
_EACH = "success by seed"
_APART = ("model", "training", "monitor")
"""Settings that tell rows apart."""
_COLUMNS = (
    ("clean accuracy", "clean accuracy", 2),
    ("drop, points", "clean accuracy drop", 2),
    ("worst class, points", "worst class accuracy drop", 1),
    ("of another clean model", "worst class accuracy drop of another clean model", 1),
    ("success", "attack success rate", 1),
    (_EACH, _EACH, 1),
    ("success without the attack", "attack success rate without the attack", 1),
    (_ADDED, _ADDED, 1),
    ("L-inf", "distance linf", 3),
    ("SSIM", "ssim", 2),
)
_SHARES = {"index", "domain units"}


def table(report: dict[str, Any]) -> str:
    """Return the table of a JSON report as Markdown, without columns that say nothing.

    Args:
        report: As `casemate run --json` writes it.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for trial in report["trials"]:
        gate = trial["settings"].get("training")
        if gate is not None and trial["status"] == "finished":
            name = json.dumps([trial["settings"].get(k) for k in _APART], sort_keys=True)
            groups[name].append(trial)
    varied = varied_in([g[0]["settings"]["training"] for g in groups.values()])
    models = _models([g[0]["settings"].get("model") or {} for g in groups.values()])
    head = ("model", "attack", "defense", "poisoned", *(words for words, _, _ in _COLUMNS), "seeds")
    added = {tuple(row["trials"]): row["added"] for row in _settings(report)}
    found = (_row(group, varied, added) for group in groups.values())
    rows = [head, *((model, *row) for model, row in zip(models, found, strict=True))]
    kept = said(rows[1:])
    top, *body = [[row[i] for i in kept] for row in rows]
    return markdown(top, body)


def _settings(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings that the report compares, each with its trials and figures over seeds."""
    return [s for system in report.get("sensitivity", ()) for s in system["settings"]]


def _models(models: list[dict[str, Any]]) -> list[str]:
    """Return what tells each row's model from the others'; "" for all where there is but one."""
    flat = [{**m, **(m.get("recipe") or {}), "recipe": None} for m in models]
    keys = [
        k
        for k in dict.fromkeys(k for m in flat for k in m)
        if len({str(m.get(k)) for m in flat}) > 1
    ]
    return [", ".join(f"{k.replace('_', ' ')} {m.get(k)}" for k in keys) for m in flat]


def _row(
    trials: list[dict[str, Any]],
    varied: set[tuple[str, str]],
    added: dict[tuple[int, ...], dict[str, Any] | None],
) -> tuple[str, ...]:
    gate = trials[0]["settings"]["training"]
    cells = []
    for _, name, digits in _COLUMNS:
        if name == _EACH:
            cells.append(_by_seed(trials))
            continue
        found = [measured(t, name) for t in trials]
        if name == _ADDED:
            over = added.get(tuple(t["number"] for t in trials))
            found = [None if over is None else Measurement(**over)]
        cells.append(cell([m for m in found if m is not None], digits))
    poisoned = trials[0].get("spent", {}).get("poisoned samples")
    return (
        words(gate.get("attack"), varied),
        words(gate.get("defense"), varied),
        "" if poisoned is None else f"{poisoned:,}",
        *cells,
        str(len(trials)),
    )


def _by_seed(trials: list[dict[str, Any]]) -> str:
    """Return the success with each seed, in per cent; "" with one seed."""
    found = [m for t in trials if (m := measured(t, "attack success rate")) is not None]
    return " ".join(f"{100 * (m.value or 0.0):.1f}" for m in found) if len(found) > 1 else ""


def measured(trial: dict[str, Any], name: str) -> Measurement | None:
    """Return a trial's measurement of that name, or None without a value."""
    for m in trial["measurements"]:
        if m["name"] == name and m["value"] is not None:
            return Measurement(**m)
    return None


def cell(found: list[Measurement], digits: int) -> str:
    """Return the mean of measurements with its interval, shares in per cent; "" without any."""
    over = over_seeds(found)
    if over is None:
        return ""
    one = within_shares(over)
    scale = 1 if one.unit in _SHARES else 100
    value, low, high = (
        None if x is None else f"{scale * x:.{digits}f}" for x in (one.value, one.low, one.high)
    )
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def varied_in(gates: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return (plugin, parameter) where a parameter is not the same in all rows of a plugin."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for gate in gates:
        for section in filter(None, (gate.get("attack"), gate.get("defense"))):
            for k, v in section.items():
                values[section["name"], k].add(repr(v))
    return {name for name, seen in values.items() if len(seen) > 1}


def words(section: dict[str, Any] | None, varied: set[tuple[str, str]]) -> str:
    """Return a plugin's name with what tells it from its namesakes, the amount aside."""
    if not section:
        return "none"
    name = section["name"]
    said = [
        _parameter(k.replace("_", " "), v)
        for k, v in section.items()
        if k != "amount" and (name, k) in varied
    ]
    return ", ".join([name, *filter(None, said)])


def _parameter(name: str, value: Any) -> str:
    """Return a parameter in words; empty for what is off, and for what takes more than a few."""
    if isinstance(value, bool):
        return name if value else ""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return f"{name} {' or '.join(value)}"
    return f"{name} {value}" if isinstance(value, str | int | float) else ""


if __name__ == "__main__":
    show(__doc__, table)
