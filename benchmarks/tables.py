"""What the scripts share that print a campaign's JSON report as a table for the docs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["markdown", "said", "show"]


def show(description: str, table: Callable[[dict[str, Any]], str]) -> None:
    """Read the report that the command line names and print its table.

    Args:
        description: Its first line is for `--help`.
        table: Returns the table of a report as `casemate run --json` writes it.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("report", type=Path)
    print(table(json.loads(parser.parse_args().report.read_text(encoding="utf-8"))))


def said(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return which columns of rows say anything."""
    return [i for i, column in enumerate(zip(*rows, strict=True)) if {*column} - {"", "none"}]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
