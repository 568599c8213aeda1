"""Numbers as people write them in a campaign: 8/255, 1e-3, 0.03."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

__all__ = ["Integer", "Number", "parse_number"]

_PART = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"\s*({_PART})\s*(?:/\s*({_PART})\s*)?")
_PATTERN = rf"^\s*{_PART}\s*(/\s*{_PART}\s*)?$"
_LONGEST = 64


def parse_number(value: Any) -> float:
    """Return a number given as one, or as text such as "8/255" or "1e-3".

    Raises:
        ValueError: If it is neither, or not finite.
    """
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value) if len(value) <= _LONGEST else None
        if not match:
            raise ValueError('must be a number or a fraction such as "8/255"')
        top, bottom = match.groups()
        if bottom is not None and float(bottom) == 0:
            raise ValueError("is a fraction with zero below the line")
        value = float(top) / float(bottom) if bottom is not None else float(top)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError('must be a number or a fraction such as "8/255"')  # noqa: TRY004 - pydantic collects ValueError
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")  # noqa: TRY004 - as above
    if abs(value) >= 2**63:
        raise ValueError("must be below 2**63")
    return value


Number = Annotated[
    float,
    BeforeValidator(parse_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": _PATTERN}]}),
]
"""A finite float, or text that `parse_number` takes."""

Integer = Annotated[int, BeforeValidator(_integer)]
"""A whole number, not a bool."""
