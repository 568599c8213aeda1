"""Checks of hyper-parameters: the value that is kept, or one sentence that names the key."""

from __future__ import annotations

import math
from typing import Any

from casemate.errors import ParameterError, did_you_mean

__all__ = ["choice", "flag", "number", "whole", "widths"]

_WIDEST = 1 << 16


def number(
    key: str, value: Any, *, low: float, high: float = math.inf, open_low: bool = False
) -> float:
    """Return a finite number from `low` to `high` as a float.

    Args:
        key: What the user calls it, such as "recipe.learning_rate".
        value: What the user gave.
        low: Least value.
        high: Greatest value.
        open_low: Whether `low` itself is refused.

    Raises:
        ParameterError: If it is no such number.
    """
    fits = (
        not isinstance(value, bool)
        and isinstance(value, (int, float))
        and math.isfinite(value)
        and low <= value <= high
        and not (open_low and value == low)
    )
    if fits:
        return float(value)
    least = f"above {low:g}" if open_low else f"of at least {low:g}"
    most = "" if high == math.inf else f" and at most {high:g}"
    raise ParameterError(key, f"must be a number {least}{most}, got {_shown(value)}")


def whole(key: str, value: Any, *, low: int, high: int = 2**31 - 1) -> int:
    """Return a whole number from `low` to `high`.

    Raises:
        ParameterError: If it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(
            key, f"must be a whole number from {low} to {high}, got {_shown(value)}"
        )
    return value


def flag(key: str, value: Any) -> bool:
    """Return true or false.

    Raises:
        ParameterError: If it is neither.
    """
    if not isinstance(value, bool):
        raise ParameterError(key, f"must be true or false, got {value!r}")
    return value


def choice(key: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse what is not one of the known words.

    Raises:
        ParameterError: If it is not.
    """
    if value not in known:
        raise ParameterError(key, f'cannot be "{value}".{did_you_mean(str(value), known)}')


def widths(key: str, values: Any, *, fewest: int, most: int) -> tuple[int, ...]:
    """Return a list of layer sizes, each from 1 to 65,536, as a tuple.

    Args:
        key: What the user calls it.
        values: List or tuple of whole numbers.
        fewest: Least length.
        most: Greatest length.

    Raises:
        ParameterError: If it is no such list.
    """
    if not isinstance(values, (list, tuple)) or not fewest <= len(values) <= most:
        length = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ParameterError(key, f"must be a list of {length} whole numbers, got {values!r}")
    return tuple(whole(f"{key}[{i}]", v, low=1, high=_WIDEST) for i, v in enumerate(values))


def _shown(value: Any) -> str:
    """Return a value as people write it: 150 for the 150.0 that a campaign's 150 has become."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else repr(value)
