"""How figures are written: percent with one decimal, its interval in brackets, n beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from casemate.report.possible import within_shares

if TYPE_CHECKING:
    from casemate.stats import Measurement

__all__ = [
    "NOTHING",
    "budget",
    "duration",
    "figure",
    "interval",
    "number",
    "percent",
    "plural",
    "points",
    "value",
]

_GRAY_LEVELS = 255
_HIDDEN = 0.05  # percent: less would be written as 0.0
_MINUTE, _HOUR = 60.0, 3600.0
_NO_BREAK = "\N{NO-BREAK SPACE}"
NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""


def percent(value: float | None) -> str:
    """Return a share in [0, 1] as "94.0 %", or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{hundredths(value)}{_NO_BREAK}%"


def hundredths(value: float) -> str:
    """Return a share in percent; one that one decimal would hide with two digits: "0.00035"."""
    percents = 100 * value
    if 0 < abs(percents) < _HIDDEN:
        digits = 1 - math.floor(math.log10(abs(percents)))
        return f"{percents:.{digits}f}"
    return f"{percents:.1f}"


def points(value: float | None) -> str:
    """Return a difference of two shares in points, with its sign: "+12.3"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with that many significant digits, or a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-3:  # noqa: PLR2004 - below this, zeros hide the figure
        return f"{value:.{digits - 1}e}"
    return f"{value:#.{digits}g}".rstrip(".")


def _is_share(measurement: Measurement) -> bool:
    return measurement.unit in {"1", "probability"}


def figure(measurement: Measurement | None) -> str:
    """Return the value alone: "94.0 %", "0.0314", or "not measured"."""
    if measurement is None or measurement.value is None:
        return "not measured"
    if _is_share(measurement):
        return percent(measurement.value)
    times = f"{_NO_BREAK}x" if measurement.unit == "x" else ""
    return f"{number(measurement.value)}{times}"


def interval(measurement: Measurement | None) -> str:
    """Return the 95 % interval as "[89.2, 96.8]", cut to what is possible; empty without one."""
    if measurement is None:
        return ""
    measurement = within_shares(measurement)
    if measurement.low is None or measurement.high is None:
        return ""
    if _is_share(measurement):
        return f"[{hundredths(measurement.low)}, {hundredths(measurement.high)}]"
    return f"[{number(measurement.low)}, {number(measurement.high)}]"


def budget(epsilon: float | None) -> str:
    """Return an epsilon as it is usually written: "8/255" for gray levels, else a number."""
    if epsilon is None:
        return NOTHING
    if math.isclose(epsilon, round(epsilon, 2), rel_tol=1e-9):  # 0.2 is 51/255 by accident
        return f"{epsilon:.4g}"
    levels = epsilon * _GRAY_LEVELS
    nearest = round(levels)
    if 1 <= nearest <= _GRAY_LEVELS and math.isclose(levels, nearest, rel_tol=1e-6):
        return f"{nearest}/{_GRAY_LEVELS}"
    return f"{epsilon:.4g}"


def duration(seconds: float) -> str:
    """Return a time span as "0.4 s", "2 min 5 s" or "1 h 3 min"."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}{_NO_BREAK}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // 60}{_NO_BREAK}min {whole % 60}{_NO_BREAK}s"
    return f"{whole // 3600:,}{_NO_BREAK}h {whole % 3600 // 60}{_NO_BREAK}min"


def plural(count: int, singular: str, several: str | None = None) -> str:
    """Return "1 trial" or "1,234 trials"."""
    word = singular if count == 1 else several or f"{singular}s"
    return f"{count:,} {word}"


def value(thing: Any) -> str:
    """Return a parameter of an attack or defense as text."""
    if isinstance(thing, bool):
        return "yes" if thing else "no"
    if isinstance(thing, float):
        return f"{thing:.4g}"
    if isinstance(thing, (list, tuple)):
        return ", ".join(value(t) for t in thing)
    return str(thing)
