"""Print a table of a campaign's JSON report, pooled over its scenarios, for the documentation.

    casemate run study:vgg-gtsrb-inference --size quick --json study.json
    python -m benchmarks.study_table study.json

One row for each model, attack and defense; the columns are the attacker's positions. Samples of all
scenarios are pooled, so n is their sum and the interval is Wilson's for the pooled rate.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.tables import markdown, said, show
from casemate.stats import rate

_POSITIONS = ("-", "after", "before", "aware")


def table(report: dict[str, Any]) -> str:
    """Return the table of a JSON report as Markdown, without columns that say nothing.

    Args:
        report: As `casemate run --json` writes it.
    """
    models = _models(report["models"])
    rows: list[tuple[str, ...]] = [
        (
            "model",
            "attack",
            "filter",
            "no filter",
            "after it",
            "before it, unaware",
            "before it, aware",
        )
    ]
    for (model, attack, defense), cells in pooled(report["trials"]).items():
        shown = [_cell(*cells[p]) if p in cells else "" for p in _POSITIONS]
        rows.append((models[model], attack, defense, *shown))
    kept = said(rows[1:])
    if len(models) == 1:
        kept.remove(0)
    top, *body = [[row[i] for i in kept] for row in rows]
    return markdown(top, body)


def pooled(trials: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, tuple[int, int]]]:
    """Return (model, attack, defense) -> position -> (successes, n), in the order of the report."""
    found: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for trial in trials:
        measured = {m["name"]: m for m in trial["measurements"]}["attack success rate"]
        settings = trial["settings"]
        defense = settings.get("defense")
        row = (
            settings["model_digest"],
            _name(settings["attack"]),
            _name(defense) if defense else "none",
        )
        position = settings["attacker"] if defense else "-"
        successes, n = found[row].get(position, (0, 0))
        here = round((measured["value"] or 0.0) * measured["n"])
        found[row][position] = (successes + here, n + measured["n"])
    return found


def _models(models: list[dict[str, Any]]) -> dict[str, str]:
    """Return each model's name by its digest: accuracy, and what of its recipe is its own."""
    recipes = [m.get("recipe") or {} for m in models]
    own = [k for k in recipes[0] if len({repr(r.get(k)) for r in recipes}) > 1]
    names = {}
    for model, recipe in zip(models, recipes, strict=True):
        settings = ", ".join(
            f"{k.replace('_', ' ')} {recipe[k]:g}" for k in own if k != "optimizer"
        )
        words = f"{recipe['optimizer'] if 'optimizer' in own else model['name']} {settings}".strip()
        accuracy = model["accuracy"]
        right = round(accuracy["value"] * accuracy["n"])
        names[model["digest"]] = f"{words}; accuracy {_cell(right, accuracy['n'], digits=1)}"
    return names


def _name(section: dict[str, Any]) -> str:
    epsilon = section.get("epsilon")
    extra = "".join(f", {k} {section[k]}" for k in ("restarts", "steps") if section.get(k))
    if epsilon is not None:
        return f"{section['name']} {round(255 * epsilon)}/255{extra}"
    sizes = [str(section[k]) for k in ("neighbors", "radius", "window") if k in section]
    return " ".join([section["name"], *sizes])


def _cell(successes: int, n: int, digits: int = 0) -> str:
    measured = rate("success", successes, n)
    if measured.value is None or measured.low is None or measured.high is None:
        return "n = 0"
    value, low, high = (
        f"{100 * x:.{digits}f}" for x in (measured.value, measured.low, measured.high)
    )
    return f"{value} % [{low}, {high}]"


if __name__ == "__main__":
    show(__doc__, table)
