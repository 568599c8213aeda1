"""One writer at a time: a lock that the operating system releases even after kill -9."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from casemate.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WriterLock"]


class WriterLock:
    """Held from construction to `release`.

    Raises:
        StoreError: If another process holds it.
        OSError: If the lock file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._handle, 20).decode("ascii", errors="replace").strip()
            os.close(self._handle)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreError(
                f"{who} is writing to the store {folder}; wait for it to end or name another "
                "with --store"
            ) from None
        except BaseException:
            os.close(self._handle)
            raise
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process write."""
        os.close(self._handle)
