"""A bar for downloads with speed and time left."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["download_bar"]


@contextmanager
def download_bar(
    name: str, *, total: int, done: int, console: Console | None = None
) -> Iterator[Callable[[int], object]]:
    """Draw a bar on standard error while its context is open; a `casemate.data.progress.Progress`.

    Where standard error is no terminal, one line says what is downloaded.

    Args:
        name: The file's name.
        total: Its size in bytes.
        done: Bytes that are there already from an earlier try.
        console: Where to draw instead.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        console.print(f"downloading {escape(name)} ({total / 1e6:.1f} MB)", highlight=False)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:
        task = bars.add_task(escape(name), total=total, completed=done)
        yield lambda count: bars.advance(task, count)
