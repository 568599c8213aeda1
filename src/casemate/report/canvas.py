"""Where figures are drawn: one size and one set of colors, for all that becomes a picture."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from casemate.report.svg import themed
from casemate.report.text import cut, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CONTROL",
    "FONT",
    "INK",
    "LINE",
    "MUTED",
    "SERIES",
    "apart",
    "bare_frame",
    "painted",
    "percent_scale",
    "short",
]

INK, MUTED, LINE, CONTROL = "#010101", "#020202", "#030303", "#040404"
"""Placeholders of the page's colors."""
SERIES = ("#110101", "#110202", "#110303", "#110404", "#110505", "#110606")
"""The same, of curves and marks."""
FONT = 12.5
_COLORS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    CONTROL: "var(--control)",
} | {color: f"var(--series-{i})" for i, color in enumerate(SERIES, 1)}
_POINTS_PER_INCH = 72
_WIDTH, _HEIGHT = 410, 270
_LEFT, _RIGHT, _BOTTOM, _TOP = 50, 120, 50, 14
_LABEL = 15
_LABEL_LENGTH = 1000
_RATIO = 2.5
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "casemate",  # the same figure is the same text each time
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.usetex": False,
    "font.family": "DejaVu Sans",  # measured with; the page's own font draws
    "font.size": FONT,
    "axes.unicode_minus": True,
}


def painted(paint: Callable[[Any], None], words: str) -> Markup:
    """Return a figure as markup in the page's colors.

    Args:
        paint: Draws on matplotlib's axes, in the placeholder colors; room for names is at their
            right.
        words: What a screen reader says of the figure; untrusted text.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes long to import, and no other part needs it
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - as above
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # a name in a script that the measuring font lacks: the page's font draws it
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(_WIDTH / _POINTS_PER_INCH, _HEIGHT / _POINTS_PER_INCH))
        FigureCanvasSVG(figure)
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / _HEIGHT,
                (_WIDTH - _LEFT - _RIGHT) / _WIDTH,
                (_HEIGHT - _BOTTOM - _TOP) / _HEIGHT,
            )
        )
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    label = visible(cut(words, _LABEL_LENGTH))
    # made above by our own code from escaped text: the one kind of markup that is marked safe
    return Markup(themed(buffer.getvalue(), label=label, colors=_COLORS))  # noqa: S704


def percent_scale(axes: Any, floor: float = 0.0) -> None:
    """Let y run from `floor` to 100 %."""
    axes.set_ylim(floor - 0.025 * (1 - floor), 1 + 0.025 * (1 - floor))
    levels = [floor + (1 - floor) * i / 4 for i in range(5)]
    axes.set_yticks(levels, [f"{100 * y:g}" + (" %" if y == 1 else "") for y in levels])


def bare_frame(axes: Any, xlabel: str) -> None:
    """Name x and leave of the frame what helps to read."""
    axes.set_xlabel(xlabel, color=MUTED, labelpad=8)
    axes.grid(axis="y", color=LINE, linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, pad=7, bottom=False, left=False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED)
        spine.set_linewidth(0.8)


def apart(values: Sequence[float]) -> list[float]:
    """Return the values that can be labeled on a logarithmic axis, the largest first to stay."""
    kept: list[float] = []
    for value in sorted((v for v in values if v > 0), reverse=True):
        if not kept or kept[-1] / value >= _RATIO:
            kept.append(value)
    return sorted(kept)


def short(label: str) -> str:
    """Return a name as far as there is room for it beside a figure."""
    label = visible(" ".join(label.split()))
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"
