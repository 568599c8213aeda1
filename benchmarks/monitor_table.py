"""Print what monitors see of attacks on training, over their seeds, for the docs.

    casemate run study:lenet-mnist-training --json study.json
    python -m benchmarks.monitor_table study.json

One row for each attack and defense; a column for each monitor in normal use and with triggers: how
many points more windows raise alarm over the victim than over another clean model, with the
interval that the report has. A star stands where the report says that the monitor detects.
"""

from __future__ import annotations

from typing import Any

from benchmarks.tables import markdown, said, show
from benchmarks.training_table import varied_in, words


def table(report: dict[str, Any]) -> str:
    """Return the table of a JSON report as Markdown, without columns that say nothing.

    Args:
        report: As `casemate run --json` writes it.
    """
    trials = {t["number"]: t for t in report["trials"]}
    rows = [(row, trials[row["trials"][0]]) for row in report["monitoring"]]
    varied = varied_in([t["settings"]["training"] for _, t in rows])
    measures = list(rows[0][0]["beyond_another_clean_model"]) if rows else []
    head = ("attack", "defense", "poisoned", *(m.removeprefix("detection by ") for m in measures))
    body = [_row(row, trial, varied, measures) for row, trial in rows]
    kept = said(body)
    return markdown([head[i] for i in kept], [[line[i] for i in kept] for line in body])


def _row(
    row: dict[str, Any], trial: dict[str, Any], varied: set[tuple[str, str]], measures: list[str]
) -> tuple[str, ...]:
    gate, count = trial["settings"]["training"], trial.get("spent", {}).get("poisoned samples")
    return (
        words(gate.get("attack"), varied),
        words(gate.get("defense"), varied),
        "" if count is None else f"{count:,}",
        *(_cell(row["beyond_another_clean_model"][m]) for m in measures),
    )


def _cell(more: dict[str, Any] | None) -> str:
    if more is None:
        return ""
    found = more["difference"]
    value, low, high = (
        None if found[k] is None else f"{100 * found[k]:.1f}" for k in ("value", "low", "high")
    )
    ends = "" if low is None else f" [{low}, {high}]"
    return f"{value}{ends}{' *' if more['detected'] else ''}"


if __name__ == "__main__":
    show(__doc__, table)
