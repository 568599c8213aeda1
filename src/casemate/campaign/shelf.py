"""`StoreShelf`: files of the training gate in the store, each with where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.origins import origin_name
from casemate.campaign.provenance import now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate.campaign.store import Store

__all__ = ["StoreShelf"]


class StoreShelf:
    """Where the labs of attackers and defenders, and trials, find models that others trained.

    Args:
        store: Where the files are.
        origin: Returns where that comes from which is computed now, as `provenance.origin`.
    """

    def __init__(self, store: Store, origin: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self._origin = origin

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or None."""
        return self._store.file(name)

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Keep what `write` writes to the path that it is given; return where it lies now."""
        self._store.put_value(origin_name(name), {**self._origin(), "at": now()})
        self._store.put_file(name, write)
        path = self._store.file(name)
        assert path is not None  # noqa: S101 - it was put there just now
        return path
