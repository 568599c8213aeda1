"""The class behind a plugin's name, where it is installed: a report may be read without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate import registry

if TYPE_CHECKING:
    from casemate.registry import Kind

__all__ = ["installed"]


def installed(kind: Kind, name: str) -> object | None:
    """Return the class behind a name, or None where there is none that can be imported."""
    try:
        return registry.get(kind, name)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - a third party's plugin can raise anything; the report goes on
        return None
