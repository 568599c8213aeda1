"""What the defense of a trial noted, in words: layer, classes flagged, channels pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.report import formats

if TYPE_CHECKING:
    from casemate.report.facts import Facts

__all__ = ["Note", "noted"]

_LABELS = frozenset({"found", "flagged", "class"})
_NAMES = {"found": "class named as target", "flagged": "classes flagged"}
_SHOWN = 12
_NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note.

    Attributes:
        name: What it is about; untrusted text, as the next.
        words: What was noted.
    """

    name: str
    words: str


def noted(facts: Facts) -> tuple[Note, ...]:
    """Return the notes of a trial's defense at training, in the order in which it left them."""
    evidence = facts.trial.evidence
    notes = evidence.notes if evidence is not None else {}
    return tuple(
        Note(name=_NAMES.get(name, name), words=_words(name, value, facts))
        for name, value in notes.items()
    )


def _words(name: str, value: Any, facts: Facts) -> str:
    """Return a note's value; of lists no more than a few entries, and how many there are."""
    if value is None:
        return _NONE
    if isinstance(value, list):
        return _listed(name, value, len(value), facts)
    if isinstance(value, dict):
        return _mapped(name, value, facts)
    if name in _LABELS and isinstance(value, int) and not isinstance(value, bool):
        return facts.class_name(value)
    return formats.value(value)


def _listed(name: str, value: list[Any], entries: int, facts: Facts) -> str:
    """Return a list of `entries`, of which these are the first."""
    if value and all(isinstance(v, dict) and {"class", "suspected"} <= v.keys() for v in value):
        suspected = [_words("class", v["class"], facts) for v in value if v["suspected"] is True]
        first = "" if entries == len(value) else f"the first {len(value):,} of "
        return f"suspected {', '.join(suspected) or _NONE} (of {first}{entries:,})"
    shown = ", ".join(_words(name, v, facts) for v in value[:_SHOWN])
    return f"{shown} … ({entries:,} in all)" if entries > len(value[:_SHOWN]) else shown or _NONE


def _mapped(name: str, value: dict[str, Any], facts: Facts) -> str:
    entries, first = value.get("entries"), value.get("first")
    if isinstance(entries, int) and isinstance(first, list):  # a list that was cut
        words = _listed(name, first, entries, facts)
        if not {"smallest", "largest"} <= value.keys() or name in _LABELS:
            return words
        low, high = (formats.value(value[end]) for end in ("smallest", "largest"))
        return f"{words}, from {low} to {high}"
    parts = [f"{key} {_words(key, v, facts)}" for key, v in value.items()]
    left = len(parts) - _SHOWN
    shown = "; ".join(parts[:_SHOWN])
    return f"{shown}; … ({left:,} more)" if left > 0 else shown or _NONE
