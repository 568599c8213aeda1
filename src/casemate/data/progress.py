"""Telling how far a download is to whoever shows it.

The data layer draws nothing. The command line and the Python API say once who shows downloads;
until then nobody does.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["Progress", "current", "shown_by", "silent"]


class Progress(Protocol):
    """Shows the download of one file while its context is open."""

    def __call__(
        self, name: str, *, total: int, done: int
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Open the display and return what is to be called with each number of new bytes.

        Args:
            name: The file's name.
            total: Its size in bytes.
            done: Bytes that are there already from an earlier try.
        """


@contextmanager
def silent(name: str, *, total: int, done: int) -> Iterator[Callable[[int], object]]:  # noqa: ARG001 - the signature of `Progress`
    """Show nothing."""
    yield lambda _count: None


_current: list[Progress] = [silent]


def current() -> Progress:
    """Return who shows downloads that loaders start."""
    return _current[-1]


@contextmanager
def shown_by(progress: Progress) -> Iterator[None]:
    """Let `progress` show every download of this process while the context is open."""
    _current.append(progress)
    try:
        yield
    finally:
        _current.remove(progress)
