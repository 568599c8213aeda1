"""A report appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from casemate.errors import UsageError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["write_text"]


def write_text(path: str | PathLike[str], text: str) -> Path:
    """Write a UTF-8 text file in one step and return its absolute path.

    Raises:
        UsageError: If it cannot be written; a file that was there before is left as it was.
    """
    target = Path(path).absolute()
    part = target.with_name(f".casemate-{os.getpid()}.part")
    try:
        try:
            # a lone surrogate in an untrusted name must not keep the report from being written
            part.write_bytes(text.encode("utf-8", "replace"))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written ({error.strerror or error}); name a file in "
            "an existing, writable folder with space left"
        ) from error
    return target
