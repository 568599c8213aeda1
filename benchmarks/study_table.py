"""Print a table of a campaign's JSON report, pooled over its scenarios, for the documentation.

    casemate run study:vgg-gtsrb-inference --size quick --json study.json
    python -m benchmarks.study_table study.json

One row for each attack and defense; the columns are the attacker's positions. Samples of all
scenarios are pooled, so n is their sum and the interval is Wilson's for the pooled rate.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from casemate.stats import rate

_POSITIONS = ("-", "after", "before", "aware")


def main() -> None:
    """Read a report and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    document = json.loads(parser.parse_args().report.read_text(encoding="utf-8"))
    print("| attack | filter | no filter | after it | before it, unaware | before it, aware |")
    print("|---|---|---|---|---|---|")
    for (attack, defense), cells in pooled(document["trials"]).items():
        shown = " | ".join(_cell(*cells[p]) if p in cells else "" for p in _POSITIONS)
        print(f"| {attack} | {defense} | {shown} |")


def pooled(trials: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    """Return (attack, defense) -> position -> (successes, n), in the order of the report."""
    table: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
    for trial in trials:
        measured = {m["name"]: m for m in trial["measurements"]}["attack success rate"]
        settings = trial["settings"]
        defense = settings.get("defense")
        row = (_name(settings["attack"]), _name(defense) if defense else "none")
        position = settings["attacker"] if defense else "-"
        successes, n = table[row].get(position, (0, 0))
        here = round((measured["value"] or 0.0) * measured["n"])
        table[row][position] = (successes + here, n + measured["n"])
    return table


def _name(section: dict[str, Any]) -> str:
    epsilon = section.get("epsilon")
    if epsilon is not None:
        return f"{section['name']} {round(255 * epsilon)}/255"
    sizes = [str(section[k]) for k in ("neighbors", "radius", "window") if k in section]
    return " ".join([section["name"], *sizes])


def _cell(successes: int, n: int) -> str:
    measured = rate("success", successes, n)
    if measured.value is None or measured.low is None or measured.high is None:
        return "n = 0"
    low, high = 100 * measured.low, 100 * measured.high
    return f"{100 * measured.value:.0f} % [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    main()
