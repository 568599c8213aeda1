"""The database of a store: its tables, and opening it without changing what is not ours."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from casemate.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FILE", "VERSION", "open_database"]

FILE = "casemate.sqlite"
"""Name of the database's file in the store's folder."""

VERSION = 2
"""Version of the tables; a store of another version is refused, never changed."""

_APPLICATION = 0x43534D54  # "CSMT", in the file's header

_TABLES = """
CREATE TABLE trials (
    key TEXT PRIMARY KEY, seconds REAL NOT NULL, evidence TEXT, arrays BLOB, object TEXT,
    error TEXT, traceback TEXT, made TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE cached (name TEXT PRIMARY KEY, content BLOB, object TEXT) WITHOUT ROWID;
CREATE TABLE runs (
    campaign TEXT, number INTEGER, key TEXT NOT NULL, identity TEXT NOT NULL,
    PRIMARY KEY (campaign, number)
) WITHOUT ROWID;
CREATE TABLE campaigns (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
"""

_MARKS = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"


def open_database(folder: Path, *, write: bool) -> sqlite3.Connection | None:
    """Return the store's database; None if it has no tables yet and is not to be written.

    Raises:
        StoreError: If it is of another program or version.
        sqlite3.Error: If it cannot be read or written.
    """
    file = folder / FILE
    database = sqlite3.connect(file, timeout=10) if write else _reading(file)
    try:
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            # new, or a writer was killed before it made the tables
            if write:
                _tune(database)
                database.executescript(f"BEGIN; {_MARKS} {_TABLES} COMMIT;")
                return database
            database.close()
            return None
        _check(database, folder)
        if write:
            _tune(database)
    except BaseException:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection, folder: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    if application != _APPLICATION:
        raise StoreError(
            f"{folder / FILE} is not a store of Casemate; name another folder with --store"
        )
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise StoreError(
            f"the store {folder} has version {version}, but this Casemate reads "
            f"{VERSION}; name another with --store or use the version that wrote it"
        )


def _tune(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    # the log survives kill -9 without an fsync a commit; a power cut may cost a few trials
    database.execute("PRAGMA synchronous = NORMAL")


def _reading(file: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing, also where the folder cannot be written."""
    address = file.resolve().as_uri()
    database = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=10)
    try:
        database.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError:
        database.close()
        if file.with_name(f"{file.name}-wal").exists():
            raise
        # the index of the log cannot be made there; without a log it is not needed either
        database = sqlite3.connect(f"{address}?immutable=1", uri=True)
    return database
