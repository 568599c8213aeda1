"""What a check returns when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Problem", "few", "percent"]

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with a model or its data, found before an attack is run.

    Attributes:
        id: Name of the check that found it, such as "class-order".
        severity: "error" if figures measured so would mislead, "warning" if they stand.
        message: One sentence: what was seen, with figures.
        remedy: What to do about it.
    """

    id: str
    severity: Literal["error", "warning"]
    message: str
    remedy: str


def few(values: Sequence[object]) -> str:
    """Return the first values of a list, and how many more there are."""
    more = len(values) - _SHOWN
    return ", ".join(map(str, values[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def percent(share: float) -> str:
    """Return a share as the report writes it."""
    return f"{100 * share:.1f} %"
