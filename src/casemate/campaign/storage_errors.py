"""What can go wrong with a disk or a database, each as one sentence with what to do."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casemate.campaign.database import FILE
from casemate.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["explained"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(store: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(_of_disk(store, error)) from error
    except sqlite3.Error as error:
        raise StoreError(_of_database(store, error)) from error


def _of_disk(store: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return _full(store)
    if error.errno in _FORBIDDEN:
        return _forbidden(store)
    reason = error.strerror or str(error)
    return f"the store {store} cannot be used ({reason}); mend that or name another with --store"


def _of_database(store: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return _full(store)
    if "readonly" in text or "read-only" in text:
        return _forbidden(store)
    if "locked" in text or "busy" in text:
        return f"another process is writing to the store {store}; wait or name another with --store"
    if "not a database" in text or "malformed" in text:
        return (
            f"the store {store} is damaged ({text}); move {store / FILE} away to "
            "start afresh, or put back a copy of it"
        )
    return f"the store {store} cannot be used ({text}); mend that or name another with --store"


def _full(store: Path) -> str:
    return (
        f"the disk of the store {store} is full; what is computed is kept: make room and run the "
        "same command again"
    )


def _forbidden(store: Path) -> str:
    return f"the store {store} cannot be written; make it writable or name another with --store"
