"""What came out otherwise when a trial was computed again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from casemate.campaign.encoding import encode_evidence

if TYPE_CHECKING:
    import numpy as np

    from casemate.evidence import Evidence
    from casemate.stats import Measurement

__all__ = ["differences"]

_ARRAYS = ("samples", "examples")


def differences(before: Evidence, after: Evidence, *, same_batches: bool = True) -> tuple[str, ...]:
    """Return one sentence for each thing that differs; none if nothing does, bit for bit.

    Args:
        before: What the store has.
        after: What came out now.
        same_batches: Whether both were computed with the same batch size. What is spent depends on
            how much was under way when a sample was fooled, and is not compared otherwise.
    """
    if not same_batches:
        after = replace(after, spent=before.spent)
    if encode_evidence(before) == encode_evidence(after):
        return ()
    found = []
    names = dict.fromkeys(m.name for e in (before, after) for m in _all(e))
    for name in names:
        was, now = _measured(before, name), _measured(after, name)
        if was != now:
            found.append(f"{name} was {_words(was)} and is {_words(now)}")
    found += _elsewhere(before, after)
    return tuple(found) or ("the evidence differs in its form",)


def _elsewhere(before: Evidence, after: Evidence) -> list[str]:
    """Return what differs besides the measurements."""
    found = []
    for what in ("flags", "spent"):
        was_said, now_said = getattr(before, what), getattr(after, what)
        if was_said != now_said:
            found.append(f"{what} were {was_said or 'none'} and are {now_said or 'none'}")
    columns = {name: _changed(getattr(before, name), getattr(after, name)) for name in _ARRAYS}
    for what, differing in (
        ("what the defense noted differs", _differing(before.notes, after.notes)),
        ("the tables differ", _differing(before.tables, after.tables)),
        *((f"{name} differ", changed) for name, changed in columns.items()),
    ):
        if differing:
            found.append(f"{what} in {', '.join(differing)}")
    return found


def _all(evidence: Evidence) -> tuple[Measurement, ...]:
    return (*evidence.measurements, *evidence.by_class)


def _measured(evidence: Evidence, name: str) -> Measurement | None:
    return next((m for m in _all(evidence) if m.name == name), None)


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = dict.fromkeys((*before, *after))
    return [name for name in names if before.get(name) != after.get(name)]


def _words(measurement: Measurement | None) -> str:
    if measurement is None or measurement.value is None:
        return "not measured"
    return f"{measurement.value!r} (n = {measurement.n})"


def _changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    return [
        name
        for name in dict.fromkeys((*before, *after))
        if name not in before or name not in after or not _same(before[name], after[name])
    ]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
