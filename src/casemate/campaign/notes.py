"""What a defense noted, as JSON data of bounded size: long texts and lists are cut and say so."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["bounded"]

_NOTES = 30
_CHARACTERS = 8192  # of one note, as JSON
_TEXT = 500
_NAME = 80
_DEPTH = 5
_ENTRIES = (64, 16, 4, 1)  # the first with which a note is short enough
_LEFT_OUT = "left out"


def bounded(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes as plain JSON data, small enough to go with every trial.

    A note is its own bound, so that a long one does not shorten the others. A list of more than 64
    entries, or fewer where even these are too long, becomes {"entries": how many it had, "first":
    those at its start}, and where all are numbers "smallest" and "largest"; the rest of a longer
    mapping is counted under "left out". Texts are cut after 500 characters. Numbers that are not
    finite are written as words.

    Args:
        notes: As a defense left them.
    """
    kept = {_text(str(name), _NAME): _note(value) for name, value in [*notes.items()][:_NOTES]}
    if len(notes) > _NOTES:
        kept[_LEFT_OUT] = f"{len(notes) - _NOTES} more notes"
    return kept


def _note(value: Any) -> Any:
    for most in _ENTRIES:
        plain = _plain(value, most, _DEPTH)
        if len(json.dumps(plain)) <= _CHARACTERS:
            return plain
    return f"{_LEFT_OUT}: too long"


def _plain(value: Any, most: int, depth: int) -> Any:  # noqa: PLR0911 - one return a kind of value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return _text(value, _TEXT)
    if not isinstance(value, (dict, list, tuple)):
        return f"{_LEFT_OUT}: a {type(value).__name__}"
    if depth == 0:
        return f"{_LEFT_OUT}: nested too deep"
    if isinstance(value, dict):
        return _mapping(value, most, depth - 1)
    plain = [_plain(v, most, depth - 1) for v in value[:most]]
    return plain if len(value) <= most else _cut(value, plain)


def _mapping(value: Mapping[Any, Any], most: int, depth: int) -> dict[str, Any]:
    plain = {_text(str(name), _NAME): _plain(v, most, depth) for name, v in [*value.items()][:most]}
    if len(value) > most:
        plain[_LEFT_OUT] = f"{len(value) - most} more entries"
    return plain


def _cut(value: Sequence[Any], first: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"entries": len(value)}
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
        finite = [v for v in value if math.isfinite(v)]
        if finite:
            found |= {"smallest": min(finite), "largest": max(finite)}
    return {**found, "first": first}


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"


def _text(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
