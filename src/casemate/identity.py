"""Content hashes: what a value was made from names it.

A key is the BLAKE2b hash of canonical JSON (sorted keys, no white space, floats by their shortest
exact form), so that the same parameters give the same key on every machine and Python version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["SCHEMA", "canonical", "digest_bytes", "digest_file", "key"]

SCHEMA = 1
"""Version of what goes into a key; raising it makes every trial run again."""

# exact types, so that members of an enumeration of strings are not among them
_PLAIN = frozenset({bool, int, float, str, type(None)})
_SIZE = 16  # bytes: 128 bits are ample against accident, and read well as 32 hex digits


def canonical(value: Any) -> Any:
    """Return `value` as plain JSON data.

    Raises:
        TypeError: If the value holds something that has no canonical form.
    """
    # most values are plain, so the tests below are spared them
    return value if type(value) in _PLAIN else _compound(value)


def _compound(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: canonical(getattr(value, f.name)) for f in fields(value) if f.init}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        plain = {str(k): canonical(v) for k, v in value.items()}
        if len(plain) != len(value):
            raise TypeError(f"two of the keys {list(value)} have the same canonical form")
        return plain
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form for a key")


def key(*parts: Any) -> str:
    """Return the 32 hex digits that name the value made from `parts`."""
    text = json.dumps(
        [SCHEMA, canonical(parts)], sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return digest_bytes(text.encode())


def digest_bytes(*chunks: bytes | memoryview) -> str:
    """Return the BLAKE2b-128 hash of the chunks, one after another, in hex."""
    h = hashlib.blake2b(digest_size=_SIZE)
    for chunk in chunks:
        h.update(chunk)
    return h.hexdigest()


def digest_file(path: Path) -> str:
    """Return the BLAKE2b-128 hash of a file's bytes, in hex."""
    h = hashlib.blake2b(digest_size=_SIZE)
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()
