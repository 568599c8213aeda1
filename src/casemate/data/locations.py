"""Where data lies: the user's own archives, and the cache folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "DATA_VARIABLE", "cache_folder", "data_folder"]

DATA_VARIABLE = "CASEMATE_DATA"
"""Environment variable: the folder with the user's copies of official archives."""

CACHE_VARIABLE = "CASEMATE_CACHE"
"""Environment variable: the folder for downloads and decoded arrays."""


def data_folder() -> Path | None:
    """Return the folder with the user's copies of official archives, or None if none is named."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """Return the folder for downloads and decoded arrays; it need not exist yet."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import pooch  # noqa: PLC0415 - imports an HTTP client, needless where the folder is named

    return Path(pooch.os_cache("casemate"))
