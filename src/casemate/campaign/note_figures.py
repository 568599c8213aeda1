"""Figures that stand in a defense's notes: its verdict on a backdoor, and what is guaranteed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED
from casemate.stats import Measurement, rate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["note_figures"]

_EPSILON = "epsilon"


def note_figures(notes: Mapping[str, Any], target: int | None) -> list[Measurement]:
    """Return the measurements that notes hold; `training.defended` says which notes are figures.

    Args:
        notes: Of the trial's defense.
        target: Label that the attack's trigger leads to; None where there is no trigger, so that
            there is no backdoor to find.
    """
    found = []
    if "found" in notes:
        named = notes["found"]
        flagged = int(named is not None)
        if target is None:
            found.append(rate(FALSE_FLAG, flagged, 1))
        else:
            found += [rate(FLAGGED, flagged, 1), rate(NAMED, int(named == target), 1)]
    if "delta" in notes and _is_number(notes.get(_EPSILON)):
        found.append(_exact(_EPSILON, float(notes[_EPSILON]), "nats"))
    return found


def _exact(name: str, value: float, unit: str) -> Measurement:
    """Return a bound that follows from the parameters: nothing was sampled."""
    return Measurement(
        name=name, value=value, n=1, low=value, high=value, unit=unit, method="exact"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
