"""Curves as SVG that follow the page's theme."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from casemate.report import formats
from casemate.report.canvas import (
    CONTROL,
    FONT,
    SERIES,
    apart,
    bare_frame,
    painted,
    percent_scale,
    short,
)
from casemate.report.facts import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from casemate.report.curves import Chart, Series

__all__ = ["MOST_SERIES", "draw", "drawn"]

MOST_SERIES = 6
"""Curves in one figure; with more, neither colors nor labels can be told apart."""

_MARKERS = "osD^vP"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 1)), "-")
_LABEL_STEP = 0.077
"""From one label to the next, as a part of the axis."""
_TWO_LINES = 2.1
"""How much more room a label with a second line takes."""
_MOST_TICKS = 6
_DECADES = 30
"""From this ratio of the largest to the smallest budget on, x is logarithmic."""


def draw(chart: Chart) -> Markup:
    """Return success against budget, one curve an attack, with its band of 95 % intervals.

    Args:
        chart: What to draw; of more than `MOST_SERIES` attacks the most successful ones.
    """
    series = drawn(chart)

    def paint(axes: Any) -> None:
        _frame(axes, chart, series)
        for i, one in enumerate(series):
            _curve(axes, one, i)
        _labels(axes, series, _floor(chart, series))

    words = "; ".join(
        f"{s.label}: {formats.percent(s.points[-1].value)} at {_tick(chart, s.points[-1].x)}"
        for s in series
    )
    return painted(paint, f"{chart.measure} against {chart.axis}. {words}")


def drawn(chart: Chart) -> tuple[Series, ...]:
    """Return the series that fit in one figure: the most successful ones, in their own order."""
    best = sorted(chart.series, key=lambda s: -max(p.value for p in s.points))[:MOST_SERIES]
    return tuple(s for s in chart.series if s in best)


def _frame(axes: Any, chart: Chart, series: Sequence[Series]) -> None:
    budgets = sorted({p.x for s in series if s.kind == "budget" for p in s.points})
    largest = max(p.x for s in series for p in s.points)
    percent_scale(axes, _floor(chart, series))
    smallest = min((b for b in budgets if b > 0), default=0)
    if smallest and largest / smallest > _DECADES:
        axes.set_xscale("symlog", linthresh=smallest)
        axes.set_xlim(0, largest * 1.3)
        ticks = apart(budgets)
        axes.set_xticks([0, *ticks], ["0", *(_tick(chart, t) for t in ticks)])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, largest * 1.04 if largest > 0 else 1)
        if budgets and all(s.kind == "budget" for s in series):
            ticks = _spread(budgets, largest)
            axes.set_xticks([0, *ticks], ["0", *(_tick(chart, t) for t in ticks)])
    bare_frame(axes, chart.axis)


def _floor(chart: Chart, series: Sequence[Series]) -> float:
    """Return where y begins: at 0 for success; a little below the figures for an accuracy."""
    if chart.measure == SUCCESS:
        return 0.0
    lowest = min(p.low for s in series for p in s.points)
    return max(0.0, min(0.9, math.floor(lowest * 10) / 10))


def _tick(chart: Chart, x: float) -> str:
    return formats.budget(x) if chart.over == "perturbation" else f"{x:.3g}"


def _spread(budgets: Sequence[float], largest: float) -> list[float]:
    """Return the budgets that can be labeled without their labels touching, the largest first."""
    kept: list[float] = []
    for b in sorted(budgets, reverse=True):
        if b > 0.13 * largest and all(abs(b - k) > 0.15 * largest for k in kept):
            kept.append(b)
    return sorted(kept[:_MOST_TICKS])


def _curve(axes: Any, series: Series, i: int) -> None:
    color = CONTROL if series.control else SERIES[i % len(SERIES)]
    x = [p.x for p in series.points]
    y = [p.value for p in series.points]
    low, high = [p.low for p in series.points], [p.high for p in series.points]
    band = {"color": color, "alpha": 0.16, "linewidth": 0, "clip_on": False}
    style = {
        "color": color,
        "linewidth": 2,
        "linestyle": _DASHES[i % len(_DASHES)],
        "clip_on": False,  # all points lie within the axes; a clipping path would need an id
    }
    if series.kind != "budget":
        axes.fill_between(x, low, high, step="post", **band)
        axes.plot(x, y, drawstyle="steps-post", **style)
        return
    if len(x) > 1:
        axes.fill_between(x, low, high, **band)
    axes.vlines(x, low, high, color=color, linewidth=1.4, alpha=0.75, clip_on=False)
    axes.plot(x, y, marker=_MARKERS[i % len(_MARKERS)], markersize=6, **style)


def _labels(axes: Any, series: Sequence[Series], floor: float) -> None:
    """Write each curve's name at its end, moved apart where the ends are close."""
    two_lines = any(s.brief for s in series)
    step = _LABEL_STEP * (1 - floor) * (_TWO_LINES if two_lines else 1)
    order = sorted(range(len(series)), key=lambda i: series[i].points[-1].value)
    heights: list[float] = []
    for i in order:
        wanted = series[i].points[-1].value
        heights.append(max(wanted, heights[-1] + step) if heights else max(wanted, floor))
    overflow = max(0.0, heights[-1] - 1.0)
    for rank in range(len(heights) - 1, -1, -1):
        above = heights[rank + 1] - step if rank + 1 < len(heights) else 1.0
        heights[rank] = min(heights[rank], above) if overflow else heights[rank]
    for i, height in zip(order, heights, strict=True):
        color = CONTROL if series[i].control else SERIES[i % len(SERIES)]
        lines = (series[i].name or series[i].label, series[i].brief)
        axes.annotate(
            "\n".join(short(line) for line in lines if line),
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontweight="bold",
            fontsize=FONT,
        )
