"""Whether those who watch a deployment would notice: monitors against attacks on training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.evidence import MEASURES
from casemate.report.poisonings import over_seeds, within_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["MONITORS", "USES", "Monitoring", "Watched", "monitoring"]

_FALSE = "false alarms by "
MONITORS = tuple(name.removeprefix(_FALSE) for name in MEASURES if name.startswith(_FALSE))
"""The monitors, by the names that measures give them."""
USES = {
    "Normal use": "detection by {}",
    "With triggers": "detection by {} with triggers",
    "False alarms": "false alarms by {}",
}
"""What is watched, in a heading's words, and what its measures are called."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One attack on training under all monitors.

    Attributes:
        row: The attack, its defense and its trials.
        cells: By what is watched, one figure a monitor: over the seeds their mean with Student's
            t interval cut to [0, 1], of a single trial its own; None where nothing was measured.
    """

    row: Poisoning
    cells: dict[str, tuple[Measurement | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The matrix.

    Attributes:
        monitors: Names of the columns under each use.
        uses: What is watched, in the order of the columns.
        rows: One an attack.
    """

    monitors: tuple[str, ...]
    uses: tuple[str, ...]
    rows: tuple[Watched, ...]


def monitoring(rows: Sequence[Poisoning]) -> Monitoring | None:
    """Return monitors against attacks on training, or None where no monitor saw any of them."""
    watched = tuple(
        Watched(
            row=row,
            cells={
                use: tuple(_over_seeds(row, words.format(name)) for name in MONITORS)
                for use, words in USES.items()
            },
        )
        for row in rows
    )
    if not any(cell for w in watched for cells in w.cells.values() for cell in cells):
        return None
    return Monitoring(monitors=MONITORS, uses=tuple(USES), rows=watched)


def _over_seeds(row: Poisoning, name: str) -> Measurement | None:
    found = over_seeds([f.measurement(name) for f in row.trials])
    return None if found is None else within_shares(found)
