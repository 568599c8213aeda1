"""A contact sheet: clean, attacked and amplified difference of a few samples, as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from casemate.campaign.record import CampaignRecord
from casemate.errors import UsageError
from casemate.report.facts import facts_of
from casemate.report.gallery import gallery
from casemate.report.pictures import is_picture
from casemate.report.text import cut, visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from matplotlib.axes import Axes

    from casemate.campaign.record import TrialRecord
    from casemate.report.gallery import Example

__all__ = ["draw_sheet"]

_PER_TRIAL = 4
_INCH = 1.5


def draw_sheet(
    trials: Sequence[TrialRecord], classes: Sequence[str], path: str | PathLike[str]
) -> Path:
    """Draw up to four samples of each trial and return where the picture is.

    Args:
        trials: Finished trials with examples; a row of samples for each.
        classes: Class names by label; untrusted text.
        path: File to write; its ending chooses the format (.png, .svg, .pdf).

    Raises:
        UsageError: If there is nothing to draw, or the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - matplotlib takes long to import

    record = CampaignRecord(
        name="sheet",
        description="",
        spec={},
        trials=tuple(trials),
        models=({"classes": list(classes)},),
    )
    rows = [
        (facts.trial, [e for e in shown.examples if is_picture(e.arrays[0].shape)], shown.factor)
        for facts in facts_of(record)
        if (shown := gallery(facts)) is not None
    ]
    rows = [row for row in rows if row[1]]
    if not rows:
        raise UsageError(
            "there is no picture to draw: the inputs are features, or nothing was attacked"
        )
    figure = Figure(
        figsize=(3 * _PER_TRIAL * _INCH, len(rows) * _INCH * 1.35), layout="constrained"
    )
    grid = figure.subplots(len(rows), 3 * _PER_TRIAL, squeeze=False)
    for axes, (trial, examples, factor) in zip(grid, rows, strict=True):
        for axis in axes:
            axis.set_axis_off()
        attack = trial.settings["attack"] or trial.settings["training"]["attack"]
        name = visible(str(attack["name"]))
        for i, example in enumerate(examples[:_PER_TRIAL]):
            _triple(axes[3 * i : 3 * i + 3], example, name if i == 0 else "", factor)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the picture cannot be written: {error}") from error
    return Path(path).resolve()


def _triple(axes: Sequence[Axes], example: Example, name: str, factor: int) -> None:
    """Draw one sample: clean, attacked, difference."""
    low, high = example.bounds
    clean, attacked = (a.astype(np.float64) for a in example.arrays)
    change = 0.5 + factor * (attacked - clean) / (high - low)
    shown = ((clean - low) / (high - low), (attacked - low) / (high - low), change)
    titles = (
        f"{name}\n{_short(example.clean_label)}",
        f"{example.outcome}\n{_short(example.attacked_label)}",
        f"\ndifference x {factor}",
    )
    for axis, values, title in zip(axes, shown, titles, strict=True):
        picture = np.moveaxis(values, 0, -1).clip(0, 1)
        if picture.shape[-1] != 3:  # noqa: PLR2004 - colors; anything else is shown in gray
            picture = np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1)
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=7, parse_math=False)


def _short(label: str) -> str:
    return cut(visible(label), 22)
