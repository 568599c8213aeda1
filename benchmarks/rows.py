"""What a benchmark reports: rows with limits, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Row", "as_json", "as_markdown", "as_text", "write"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: "s", "x" (a ratio), "MiB", "%" or "points" (of percent).
        limit: What the figure must not pass, or None.
        better: Which way is better, and so on which side of the limit the figure must lie.
        peer: Whom it is compared with, or "".
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    better: Literal["lower", "higher"] = "lower"
    peer: str = ""

    @property
    def broken(self) -> bool:
        """Whether the figure is past its limit, or no number at all."""
        if self.limit is None:
            return False
        kept = self.value <= self.limit if self.better == "lower" else self.value >= self.limit
        return not kept


def as_text(rows: Sequence[Row]) -> str:
    """Return a table for the terminal; rows past their limit are marked."""
    return "\n".join(
        f"{row.name:<64} {_figure(row):>14}  {_limit(row):<12} {'BROKEN' if row.broken else ''}"
        for row in rows
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return a table for the documentation."""
    lines = ["| measured | figure | limit | kept |", "|---|---:|---:|---|"]
    for row in rows:
        kept = "" if row.limit is None else ("no" if row.broken else "yes")
        lines.append(f"| {row.name} | {_figure(row)} | {_limit(row)} | {kept} |")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON list of objects."""
    return json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False) + "\n"


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON."""
    path.write_text(as_json(rows), encoding="utf-8")


def _figure(row: Row) -> str:
    digits = 2 if row.unit in ("x", "s") else 1
    return f"{row.value:.{digits}f} {row.unit}"


def _limit(row: Row) -> str:
    if row.limit is None:
        return ""
    return f"{'≤' if row.better == 'lower' else '≥'} {row.limit:g} {row.unit}"
