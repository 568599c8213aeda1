"""The store: what campaigns computed, under the key of what made it.

A folder with an SQLite database (write-ahead log) and content-addressed files. Everything is
written whole or not at all, so a process may be killed at any moment. There is one writer at a
time and any number of readers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.campaign.database import FILE, open_database
from casemate.campaign.encoding import (
    decode_arrays,
    decode_evidence,
    encode_arrays,
    encode_evidence,
)
from casemate.campaign.lock import WriterLock
from casemate.campaign.objects import Objects
from casemate.campaign.storage_errors import explained
from casemate.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    import numpy as np

    from casemate.evidence import Evidence

__all__ = ["Store", "StoredTrial"]

_INLINE = 64 * 1024  # bytes: smaller arrays are faster in the database than in files of their own


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """What is known of a trial.

    Attributes:
        seconds: Wall time of the run that made it.
        made: When, with which versions and on what, as `provenance.origin`.
        evidence: If it finished.
        error: One sentence, if it failed.
        traceback: If it failed.
    """

    seconds: float
    made: dict[str, Any]
    evidence: Evidence | None = None
    error: str | None = None
    traceback: str | None = None


class Store:
    """An open store; close it, or use it as a context manager.

    Args:
        folder: Where it is; made if it is to be written and not there yet.
        write: Open for writing; only one process can at a time.

    Raises:
        StoreError: If it is busy, damaged, of another version, or cannot be read or written.
    """

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self._objects = Objects(folder / "objects")
        self._lock: WriterLock | None = None
        self._database: sqlite3.Connection | None = None
        with explained(folder):
            if write:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = WriterLock(folder)
        try:
            with explained(folder):
                self._open(write=write)
        except BaseException:
            self.close()
            raise

    @classmethod
    def reader(cls, folder: Path) -> Store | None:
        """Return the store opened for reading, or None if there is none yet."""
        if not (folder / FILE).exists():
            return None
        store = cls(folder, write=False)
        return store if store._database is not None else None

    def __enter__(self) -> Store:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let another process write."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- trials ---------------------------------------------------------------------------------

    def finished(self) -> set[str]:
        """Return the keys of all trials that have evidence."""
        rows = self._rows("SELECT key, object FROM trials WHERE error IS NULL")
        # evidence whose file somebody deleted is computed again
        return {key for key, digest in rows if digest is None or self._objects.exists(digest)}

    def trial(self, key: str) -> StoredTrial | None:
        """Return what is known of a trial; None if nothing is."""
        rows = self._rows(
            "SELECT seconds, evidence, arrays, object, error, traceback, made FROM trials "
            "WHERE key = ?",
            key,
        )
        if not rows:
            return None
        seconds, text, inline, digest, error, traceback, origin = rows[0]
        made = json.loads(origin)
        if error is not None:
            return StoredTrial(seconds=seconds, made=made, error=error, traceback=traceback)
        content = self._content(inline, digest)
        if content is None:
            return None
        return StoredTrial(seconds=seconds, made=made, evidence=decode_evidence(text, content))

    def put_evidence(
        self, key: str, evidence: Evidence, seconds: float, made: dict[str, Any]
    ) -> None:
        """Keep a trial's evidence, in the place of an earlier failure if there was one."""
        text, arrays = encode_evidence(evidence)
        inline, digest = self._placed(arrays)
        self._write(
            "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, NULL, NULL, ?)",
            key, seconds, text, inline, digest, json.dumps(made),
        )  # fmt: skip

    def put_failure(
        self, key: str, error: str, traceback: str, seconds: float, made: dict[str, Any]
    ) -> None:
        """Keep why a trial failed; evidence that it has already stays."""
        self._write(
            "INSERT INTO trials VALUES (?, ?, NULL, NULL, NULL, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET seconds = excluded.seconds, "
            "error = excluded.error, traceback = excluded.traceback, made = excluded.made "
            "WHERE trials.error IS NOT NULL",
            key, seconds, error, traceback, json.dumps(made),
        )  # fmt: skip

    # -- what trials share: models, crafted examples, figures -----------------------------------

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Return cached arrays by name, or None."""
        content = self._cached(name)
        return None if content is None else decode_arrays(content)

    def put(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Cache arrays of numbers."""
        inline, digest = self._placed(encode_arrays(arrays))
        self._write("INSERT OR REPLACE INTO cached VALUES (?, ?, ?)", name, inline, digest)

    def value(self, name: str) -> Any:
        """Return a cached JSON value by name, or None."""
        content = self._cached(name)
        return None if content is None else json.loads(content)

    def put_value(self, name: str, value: Any) -> None:
        """Cache a JSON value."""
        content = json.dumps(value).encode()
        self._write("INSERT OR REPLACE INTO cached VALUES (?, ?, NULL)", name, content)

    def has(self, name: str) -> bool:
        """Whether something is cached under a name."""
        rows = self._rows("SELECT object FROM cached WHERE name = ?", name)
        return bool(rows) and (rows[0][0] is None or self._objects.exists(rows[0][0]))

    def file(self, name: str) -> Path | None:
        """Return the cached file of a name, or None."""
        rows = self._rows("SELECT object FROM cached WHERE name = ?", name)
        with explained(self.folder):
            return self._objects.path(rows[0][0]) if rows and rows[0][0] else None

    def put_file(self, name: str, write: Callable[[Path], object]) -> None:
        """Cache the file that `write` makes at the path that it is given."""
        with explained(self.folder):
            digest = self._objects.put_file(write)
        self._write("INSERT OR REPLACE INTO cached VALUES (?, NULL, ?)", name, digest)

    # -- campaigns ------------------------------------------------------------------------------

    def last_run(self, campaign: str) -> dict[int, tuple[str, dict[str, Any]]]:
        """Return key and identity of each trial, by number, as the campaign was last run."""
        rows = self._rows("SELECT number, key, identity FROM runs WHERE campaign = ?", campaign)
        return {number: (key, json.loads(identity)) for number, key, identity in rows}

    def put_run(self, campaign: str, trials: Iterable[tuple[int, str, dict[str, Any]]]) -> None:
        """Note number, key and identity of trials that run now."""
        rows = [(campaign, number, key, json.dumps(identity)) for number, key, identity in trials]
        with explained(self.folder), self._connection as database:
            database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", rows)

    def campaign(self, name: str) -> dict[str, Any] | None:
        """Return what was kept of a campaign, or None."""
        rows = self._rows("SELECT document FROM campaigns WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def campaigns(self) -> list[str]:
        """Return the names of all campaigns that ran."""
        return [name for (name,) in self._rows("SELECT name FROM campaigns ORDER BY name")]

    def put_campaign(self, name: str, document: dict[str, Any]) -> None:
        """Keep a campaign's record without its evidence."""
        self._write("INSERT OR REPLACE INTO campaigns VALUES (?, ?)", name, json.dumps(document))

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            raise StoreError(f"the store {self.folder} is closed")
        return self._database

    def _open(self, *, write: bool) -> None:
        self._database = open_database(self.folder, write=write)
        if write:
            self._objects.clean()

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with explained(self.folder):
            return self._connection.execute(query, values).fetchall()

    def _write(self, statement: str, *values: Any) -> None:
        with explained(self.folder), self._connection as database:
            database.execute(statement, values)

    def _placed(self, content: bytes) -> tuple[bytes | None, str | None]:
        """Return small content as it is, and the hash of the file that larger content went to."""
        if len(content) <= _INLINE:
            return content, None
        with explained(self.folder):
            return None, self._objects.put(content)

    def _content(self, inline: bytes | None, digest: str | None) -> bytes | None:
        if digest is None:
            return inline
        with explained(self.folder):
            return self._objects.read(digest)

    def _cached(self, name: str) -> bytes | None:
        rows = self._rows("SELECT content, object FROM cached WHERE name = ?", name)
        return self._content(*rows[0]) if rows else None
