"""Files named after the hash of their content: written whole or not at all, checked when read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from casemate.errors import StoreError
from casemate.identity import digest_bytes, digest_file

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Objects"]


class Objects:
    """A folder objects/ab/cdef... of immutable files.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> str:
        """Keep bytes; return their hash."""
        digest = digest_bytes(content)
        if not self.exists(digest):

            def write(path: Path) -> None:
                path.write_bytes(content)

            self._place(write, digest)
        return digest

    def put_file(self, write: Callable[[Path], object]) -> str:
        """Keep the file that `write` makes at the path it is given; return its hash."""
        return self._place(write, None)

    def exists(self, digest: str) -> bool:
        """Whether there is such an object."""
        return self._path(digest).exists()

    def read(self, digest: str) -> bytes | None:
        """Return the content, or None if there is no such object.

        Raises:
            StoreError: If it is damaged.
        """
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if digest_bytes(content) != digest:
            raise _damaged(path)
        return content

    def path(self, digest: str) -> Path | None:
        """Return the file, or None if there is no such object.

        Raises:
            StoreError: If it is damaged.
        """
        path = self._path(digest)
        if not self.exists(digest):
            return None
        if digest_file(path) != digest:
            raise _damaged(path)
        return path

    def clean(self) -> None:
        """Remove what writers that were killed left half written; only the one writer may call."""
        for left in (self.folder / "tmp").glob("*"):
            left.unlink()

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest[2:]

    def _place(self, write: Callable[[Path], object], digest: str | None) -> str:
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=temporary)
        os.close(handle)
        source = Path(name)
        try:
            write(source)
            with source.open("rb") as file:
                os.fsync(file.fileno())
            digest = digest or digest_file(source)
            final = self._path(digest)
            final.parent.mkdir(exist_ok=True)
            source.replace(final)
        finally:
            source.unlink(missing_ok=True)
        return digest


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"{path} is damaged; delete that file and run again, what it held is computed anew"
    )
