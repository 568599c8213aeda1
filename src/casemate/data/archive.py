"""Reading members of a zip archive that may be damaged or made to do harm.

Nothing is ever unpacked to disk. An archive is refused, by name, if a member's path leads out of
it, is there twice, or is a link; if it is encrypted; or if it claims to unpack to more than any
data set needs. What a member really unpacks to is bounded by what it claims, and its CRC-32 is
checked.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Archive"]

MEMBER_LIMIT = 1 << 26
"""Most bytes that an image or a table may unpack to (64 MiB)."""

TOTAL_LIMIT = 1 << 36
"""Most bytes that a whole archive may claim to unpack to (64 GiB)."""

_ENCRYPTED = 1  # bit 0 of the general purpose flags (APPNOTE.TXT, section 4.4.4)

# what zipfile and zlib raise for an archive that is cut off, garbled, or of an unknown method
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class Archive:
    """A zip archive, open for reading, whose members' names and sizes have been checked.

    Args:
        path: The file.
        member_limit: Most bytes that one member may unpack to.
        remedy: What the user can do about a bad archive, for the messages.

    Raises:
        UsageError: If the file is no zip archive, is damaged, or is refused.
    """

    def __init__(
        self, path: Path, *, member_limit: int = MEMBER_LIMIT, remedy: str = "fetch it again"
    ) -> None:
        self.path = path
        self._remedy = remedy
        if not path.is_file():
            raise UsageError(f"{path} does not exist or is no file; mend the path")
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise UsageError(
                f"{path} is truncated or no zip archive ({error}); {remedy}"
            ) from error
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error
        try:
            self._members = self._checked(member_limit)
        except UsageError:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Names of the members that are files, in the archive's order."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Return how many bytes a member unpacks to."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """Return a member's bytes.

        Raises:
            UsageError: If there is no such member or it is damaged.
        """
        with self._guarded(name):
            return self._zip.read(self._members[name])

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member to read it piece by piece; errors are those of `read`."""
        with self._guarded(name), self._zip.open(self._members[name]) as file:
            yield file

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        if name not in self._members:
            raise UsageError(f"{self.path} has no member {name!r}; {self._remedy}")
        try:
            yield
        except UsageError:  # a ValueError too, but raised by the reader for its own reasons
            raise
        except (*_DAMAGE, OSError) as error:
            raise UsageError(
                f"{self.path}: the member {name!r} is damaged ({error}); {self._remedy}"
            ) from error

    def _checked(self, member_limit: int) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in self._zip.infolist():
            name = info.filename
            reason = _refusal(info, member_limit)
            if reason is None and name in members:
                reason = "is there twice"
            total += info.file_size
            if reason is None and total > TOTAL_LIMIT:
                reason = f"brings the archive to more than {TOTAL_LIMIT} bytes"
            if reason is not None:
                raise UsageError(
                    f"{self.path} is refused: its member {name!r} {reason}; {self._remedy} from "
                    "where you can trust it"
                )
            if not info.is_dir():
                members[name] = info
        return members


def _refusal(info: zipfile.ZipInfo, member_limit: int) -> str | None:
    """Return why a member is refused, or None."""
    # zipfile cuts a name at a NUL byte, so the name as stored is looked at
    name = info.orig_filename
    parts = name.split("/")
    if not parts[0] or ".." in parts or ":" in parts[0] or "\\" in name or "\0" in name:
        return "has a path that leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.file_size > member_limit:
        return f"would unpack to {info.file_size} bytes, more than the {member_limit} allowed"
    return None
