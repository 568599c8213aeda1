"""How much a report shows, so that it always fits into one mail."""

from __future__ import annotations

from dataclasses import dataclass, fields

from casemate.report.formats import plural

__all__ = ["LADDER", "MAX_BYTES", "Limits", "next_rung"]

MAX_BYTES = 5_000_000
"""A report is smaller than this, whatever the campaign."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is shown at most; the rest is left out and the report says so.

    Attributes:
        examples: Samples in the gallery of one finding.
        findings: Findings in full, the worst ones; the others are rows of the table of trials.
        rows: Rows of each table.
        figures: Trials whose details show every measurement.
        systems: Systems whose attacks on training, or whose hardware's, are drawn and have tables
            of their own.
        text: Characters of a traceback, the configuration or any other long text.
    """

    examples: int = 6
    findings: int = 60
    rows: int = 1500
    figures: int = 1000
    systems: int = 60
    text: int = 100_000

    def shortened(self) -> str:
        """Return what was cut against the fullest report, in words; empty for that one."""
        full = LADDER[0]
        words = {
            "examples": ("sample", " a gallery"),
            "findings": ("finding", " in full"),
            "rows": ("row", " a table"),
            "figures": ("trial", " with every measurement"),
            "systems": ("system", " attacked in training or hardware"),
            "text": ("character", " of a long text"),
        }
        return ", ".join(
            plural(getattr(self, f.name), words[f.name][0]) + words[f.name][1]
            for f in fields(self)
            if getattr(self, f.name) < getattr(full, f.name)
        )


LADDER = (
    Limits(),
    Limits(examples=4),
    Limits(examples=2),
    Limits(examples=1, text=40_000),
    Limits(examples=1, findings=30, figures=600, systems=30, text=20_000),
    Limits(examples=1, findings=20, rows=1000, figures=300, systems=20, text=20_000),
    Limits(examples=1, findings=10, rows=400, figures=100, systems=10, text=10_000),
    Limits(examples=0, findings=10, rows=200, figures=50, systems=5, text=5_000),
    Limits(examples=0, findings=5, rows=100, figures=20, systems=3, text=2_000),
    Limits(examples=0, findings=3, rows=20, figures=0, systems=1, text=1_000),
)
"""Fullest first; the first one tried that fits is taken."""


def next_rung(rung: int, size: int) -> int:
    """Return which rung to try after one that came out `size` bytes large, too many.

    Far too large a report skips rungs that cannot help enough, but never the last one.
    """
    last = len(LADDER) - 1
    return max(rung + 1, min(rung + 1 + size // (3 * MAX_BYTES), last))
