"""Printing: to standard output what was asked for, to standard error everything else.

Names of classes, files and campaigns are untrusted. They reach the terminal as plain text, without
markup, control sequences or characters that reorder a line.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["complain", "err", "out", "plain", "say", "table"]

_LONGEST = 300


def out() -> Console:
    """Return standard output."""
    return Console(markup=False, highlight=False, emoji=False)


@cache
def err() -> Console:
    """Return standard error; one for all, so that a progress bar and messages share it."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def plain(text: object, longest: int = _LONGEST) -> str:
    """Return untrusted text fit for one line of a terminal."""
    from casemate.report.text import cut, visible  # noqa: PLC0415 - help needs none of it

    return cut(visible(" ".join(str(text).split())), longest)


def say(text: str) -> None:
    """Print one line of text that is fit to be printed, however long, without wrapping."""
    out().print(Text(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print an error to standard error: one line for each line of text."""
    from casemate.report.text import visible  # noqa: PLC0415 - as above

    for line in text.splitlines() or [""]:
        err().print(Text(f"casemate: {visible(line)}"), soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """Return a table without borders of untrusted cells.

    Args:
        columns: Headings.
        rows: Cells of each row; a list is a cell of several lines.
        right: Headings of the columns of figures, which are set flush right and never wrapped.
        whole: Headings of other columns that are never wrapped.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name in right or name in whole,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text("\n".join(_lines(cell))) for cell in row))
    return made


def _lines(cell: object) -> list[str]:
    return [plain(line) for line in cell] if isinstance(cell, list) else [plain(cell)]
