"""Whether those who watch a deployment would notice: monitors against attacks on training.

A monitor notices an attack if it raises more alarms over the victim than over another clean model,
the control, on the same inputs. A new training raises alarms by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from casemate.evidence import MEASURES
from casemate.report.poisonings import over_seeds
from casemate.report.possible import as_wide_as
from casemate.stats import false_discovery, mean, newcombe, student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["BEYOND", "MONITORS", "USES", "Excess", "Monitoring", "Watched", "monitoring"]

_FALSE = "false alarms by "
MONITORS = tuple(name.removeprefix(_FALSE) for name in MEASURES if name.startswith(_FALSE))
"""The monitors, by the names that measures give them."""
USES = {
    "Normal use": "detection by {}",
    "With triggers": "detection by {} with triggers",
    "Another clean model": "alarms by {} over another clean model",
    "Another clean model, with triggers": "alarms by {} over another clean model with triggers",
    "False alarms": "false alarms by {}",
}
"""What is watched, in a heading's words, and what its measures are called."""
BEYOND = {
    "Normal use": "Another clean model",
    "With triggers": "Another clean model, with triggers",
}
"""What is watched, and what it is held against."""
_LEVEL = 0.05
_FOLDED = {"Another clean model": "Another clean model, with triggers"}


@dataclass(frozen=True, kw_only=True)
class Excess:
    """How many more alarms there were over the victim than over its control.

    Attributes:
        difference: Of the two rates on the same inputs; over several seeds the mean of their
            differences with Student's t interval cut to [-1, 1], which reaches at least as far as
            the interval over windows; of one seed without an interval.
        detected: Whether there are more alarms, with a rate of false discoveries of 5 % over all
            cells of the matrix (Benjamini and Hochberg, 1995); None with one seed.
    """

    difference: Measurement
    detected: bool | None


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One attack on training under all monitors.

    Attributes:
        row: The attack, its defense and its trials.
        cells: By what is watched, one figure a monitor: over the seeds their mean with Student's
            t interval cut to [0, 1], of a single trial its own; None where nothing was measured.
        excess: By what is held against the control, one a monitor; None where one of the two was
            not measured.
    """

    row: Poisoning
    cells: dict[str, tuple[Measurement | None, ...]]
    excess: dict[str, tuple[Excess | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The matrix.

    Attributes:
        monitors: Names of the columns under each use.
        uses: What is watched.
        folded: What has no columns of its own, by whose cells it stands in.
        rows: One an attack.
    """

    monitors: tuple[str, ...]
    uses: tuple[str, ...]
    folded: dict[str, str]
    rows: tuple[Watched, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """What is watched and has columns of its own, in their order."""
        return tuple(use for use in self.uses if use not in self.folded.values())


def monitoring(rows: Sequence[Poisoning]) -> Monitoring | None:
    """Return monitors against attacks on training, or None where no monitor saw any of them."""
    found = [
        {
            use: [
                _compared(row, USES[use].format(name), USES[control].format(name))
                for name in MONITORS
            ]
            for use, control in BEYOND.items()
        }
        for row in rows
    ]
    judged = [c for by_use in found for cells in by_use.values() for c in cells if c and c.judged]
    # many comparisons: of those that are called detected at most one in 20 is none, on average
    sure = dict(zip(map(id, judged), false_discovery([c.p for c in judged]), strict=True))

    def excess(compared: _Compared | None) -> Excess | None:
        if compared is None:
            return None
        more = (compared.difference.value or 0.0) > 0
        detected = more and sure[id(compared)] < _LEVEL if compared.judged else None
        return Excess(difference=compared.difference, detected=detected)

    watched = tuple(
        Watched(
            row=row,
            cells={
                use: tuple(
                    over_seeds([f.measurement(words.format(name)) for f in row.trials])
                    for name in MONITORS
                )
                for use, words in USES.items()
            },
            excess={use: tuple(map(excess, cells)) for use, cells in by_use.items()},
        )
        for row, by_use in zip(rows, found, strict=True)
    )
    if not any(cell for w in watched for cells in w.cells.values() for cell in cells):
        return None
    return Monitoring(monitors=MONITORS, uses=tuple(USES), folded=_FOLDED, rows=watched)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Compared:
    """A monitor's alarms over victims and their controls.

    Attributes:
        difference: As of `Excess`.
        p: How often seeds or windows would differ as much by chance, the larger of the two; 1 with
            one seed.
        judged: Whether there are seeds enough for a verdict.
    """

    difference: Measurement
    p: float = 1.0
    judged: bool = False


def _compared(row: Poisoning, name: str, control: str) -> _Compared | None:
    """Return how many more alarms a measure has than the control's, paired by seed."""
    pairs = [(f.measurement(name), f.measurement(control)) for f in row.trials]
    known = [
        (victim, clean)
        for victim, clean in pairs
        if victim and clean and victim.value is not None and clean.value is not None
    ]
    if not known:
        return None
    found = [(v.value or 0.0) - (c.value or 0.0) for v, c in known]
    difference = mean(f"{name} beyond another clean model", found, "1")
    if len(known) < 2:  # noqa: PLR2004 - one seed has no deviation
        return _Compared(difference=difference)
    return _Compared(
        difference=as_wide_as(difference, [newcombe(v, c) for v, c in known]),
        p=max(student(found), _of_windows(known)),
        judged=True,
    )


def _of_windows(pairs: Sequence[tuple[Measurement, Measurement]]) -> float:
    """Return the two-sided p value of the difference of two rates over one seed's windows."""
    count = len(pairs)
    rates = [math.fsum(m.value or 0.0 for m in side) / count for side in zip(*pairs, strict=True)]
    windows = [math.fsum(m.n for m in side) / count for side in zip(*pairs, strict=True)]
    pooled = sum(r * n for r, n in zip(rates, windows, strict=True)) / sum(windows)
    variance = pooled * (1 - pooled) * sum(1 / n for n in windows)
    if variance == 0:
        return 1.0
    return 2 * NormalDist().cdf(-abs(rates[0] - rates[1]) / math.sqrt(variance))
