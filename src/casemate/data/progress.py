"""Showing how far a download is: a bar with the time left, or whatever the caller shows.

A progress is a context manager around one file; inside it, it is told how many bytes came in.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Progress", "bar", "silent"]


class Progress(Protocol):
    """Shows the download of one file while its context is open."""

    def __call__(
        self, name: str, *, total: int | None, done: int
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open the display and return what is to be called with each number of new bytes.

        Args:
            name: The file's name.
            total: Its size in bytes, if known.
            done: Bytes that are there already from an earlier try.
        """


@contextmanager
def silent(name: str, *, total: int | None, done: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001 - the signature of `Progress`
    """Show nothing."""
    yield lambda _count: None


@contextmanager
def bar(name: str, *, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar with speed and time left on standard error, if that is a terminal."""
    # rich takes long to import and most loads download nothing
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars  # noqa: PLC0415

    console = Console(stderr=True)
    with Bars(
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
