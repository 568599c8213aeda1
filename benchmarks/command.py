"""The command line that benchmarks share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import as_markdown, as_text, write
from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.rows import Row

__all__ = ["conclude", "finish"]


def finish(description: str | None, parts: Mapping[str, Callable[[], Sequence[Row]]]) -> int:
    """Measure, print the rows, write them if asked to, and return the exit code.

    Args:
        description: For `--help`.
        parts: What takes the figures, by name, of which the command line may choose some; a
            `UsageError` means that something is missing.

    Returns:
        1 if a limit is broken, 2 if something is missing, else 0.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument(
        "--part", action="append", choices=sorted(parts), help="only this part; may be repeated"
    )
    arguments = parser.parse_args()
    chosen = [name for name in parts if name in (arguments.part or parts)]
    try:
        rows = [row for name in chosen for row in parts[name]()]
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return conclude(rows, markdown=arguments.markdown, json=arguments.json)


def conclude(rows: Sequence[Row], *, markdown: bool, json: Path | None) -> int:
    """Print the rows, write them if a file is named, and return 1 if a limit is broken, else 0."""
    print(as_markdown(rows) if markdown else as_text(rows))
    if json:
        write(rows, json)
    return int(any(row.broken for row in rows))
