"""`casemate data get`: have an official data set on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["get"]


def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits, mnist or gtsrb.")],
) -> None:
    """Download and verify a data set; CASEMATE_DATA names a folder that has it already."""
    from casemate.cli.console import plain, say  # noqa: PLC0415 - keeps --help fast
    from casemate.cli.progress import downloads  # noqa: PLC0415 - as above
    from casemate.data.fetch import get as fetch  # noqa: PLC0415 - as above

    files = fetch(name, progress=downloads)
    for file in files:
        say(plain(file, 1000))
    if not files:
        say(f"{plain(name)} comes with Casemate; there is nothing to download")
