"""Beside what trials share in the store: when, with which versions and on what it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.provenance import now
from casemate.identity import key

if TYPE_CHECKING:
    import numpy as np

    from casemate.campaign.store import Store

__all__ = ["OriginCache", "origin_name"]


def origin_name(name: str) -> str:
    """Return the name under which the origin of a cached value is kept."""
    return key("origin", name)


class OriginCache:
    """A cache of attacked samples that keeps where they come from.

    Args:
        store: Where they are.
        made: Origin of what is made now, as `provenance.origin`.

    Attributes:
        read: Origin of what was found in the store; None if nothing was.
    """

    def __init__(self, store: Store, made: dict[str, Any]) -> None:
        self._store = store
        self._made = made
        self.read: dict[str, Any] | None = None

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays, or None if there are none."""
        found = self._store.get(name)
        if found is not None:
            self.read = self._store.value(origin_name(name))
        return found

    def put(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays."""
        self._store.put_value(origin_name(name), {**self._made, "at": now()})
        self._store.put(name, arrays)
