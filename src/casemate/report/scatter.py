"""The frontier as a picture: success over the number of poisons, one mark a setting."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from casemate.report.frontier import Frontier, Setting

__all__ = ["MOST_ATTACKS", "MOST_MARKS", "scatter"]

MOST_ATTACKS = 11
"""Attacks with a mark of their own; the others share one."""

MOST_MARKS = 500
"""Settings in one figure, those on the frontier first; more would cover one another."""

_MARKERS = "osD^vP<>Xph"
_OTHERS = "other attacks"
_MARGIN = 1.35
_STEP = 0.085


def scatter(frontier: Frontier) -> Markup:
    """Return success over poisons (logarithmic): full marks on the frontier, hollow ones off it."""
    dominated = tuple(s for s in frontier.settings if not s.best)
    shown = (*frontier.best, *dominated)[:MOST_MARKS]
    names = list(dict.fromkeys(s.row.first.attack for s in sorted(shown, key=lambda s: s.poisoned)))
    looks = {
        name: (SERIES[i % len(SERIES)], _MARKERS[i]) for i, name in enumerate(names[:MOST_ATTACKS])
    }

    def look(setting: Setting) -> tuple[str, str]:
        return looks.get(setting.row.first.attack, (CONTROL, "."))

    def paint(axes: Any) -> None:
        _frame(axes, shown)
        for setting in reversed(shown):  # the frontier above the others
            _mark(axes, setting, *look(setting))
        legend = [(name, *mark) for name, mark in looks.items()]
        if len(names) > MOST_ATTACKS:
            legend.append((_OTHERS, CONTROL, "."))
        for i, (name, color, marker) in enumerate(legend):
            _name(axes, 1 - i * _STEP, name, color, marker)

    words = "; ".join(
        f"{s.row.first.attack}: {formats.percent(s.success.value)} with {s.poisoned:,}"
        for s in frontier.best
    )
    return painted(
        paint,
        f"attack success rate against poisoned training samples, {len(shown):,} "
        f"settings. On the frontier: {words}",
    )


def _frame(axes: Any, settings: Sequence[Setting]) -> None:
    counts = sorted({s.poisoned for s in settings})
    percent_scale(axes)
    axes.set_xscale("log")
    axes.set_xlim(counts[0] / _MARGIN, counts[-1] * _MARGIN)
    ticks = apart(counts)
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.minorticks_off()
    bare_frame(axes, "poisoned training samples")


def _mark(axes: Any, setting: Setting, color: str, marker: str) -> None:
    x, m = setting.poisoned, setting.success
    if setting.best and m.low is not None and m.high is not None:
        axes.vlines(x, m.low, m.high, color=color, linewidth=1.4, alpha=0.75, clip_on=False)
    axes.plot(
        [x],
        [m.value],
        marker=marker,
        markersize=8 if setting.best else 6,
        linestyle="none",
        color=color,
        markerfacecolor=color if setting.best else "none",
        alpha=1.0 if setting.best else 0.6,
        clip_on=False,
    )


def _name(axes: Any, height: float, name: str, color: str, marker: str) -> None:
    axes.plot(
        [1.06],
        [height],
        marker=marker,
        markersize=6,
        linestyle="none",
        color=color,
        transform=axes.transAxes,
        clip_on=False,
    )
    axes.annotate(
        short(name),
        (1.06, height),
        xycoords="axes fraction",
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontweight="bold",
        fontsize=FONT,
    )
