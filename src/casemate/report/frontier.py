"""The Pareto frontier of attacks on training: success against what it takes and what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from casemate.report.bounds import bounds
from casemate.report.facts import SUCCESS
from casemate.report.poisonings import ADDED, DROP, LINF, SSIM
from casemate.report.systems import systems, undefended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.bounds import Bound
    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["Frontier", "Setting", "frontiers"]

_DIGITS = 3
"""What agrees to a thousandth, a tenth of a percentage point, counts as equal."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One attack with its parameters over all of its seeds: a point.

    Attributes:
        row: The attack and its trials.
        success: Attack success rate, its interval cut to [0, 1].
        drop: Of clean accuracy.
        poisoned: Samples touched, at least 1.
        shows: What is known of its visibility. "trigger": by how much inputs with the trigger
            differ, as measured. "labels": every sample that it touched got another label and there
            is no trigger, so no pixel changes. "unknown": it changes training inputs, and the
            evidence does not say by how much.
        best: Whether no other setting dominates it.
    """

    row: Poisoning
    success: Measurement
    drop: Measurement
    poisoned: int
    shows: Literal["trigger", "labels", "unknown"]
    best: bool = True

    @property
    def bounds(self) -> dict[str, Bound]:
        """What the attack promises of accuracy, by the name of the drop."""
        return bounds(self.row)

    @property
    def costs(self) -> tuple[float, ...]:
        """What an attacker wants to be small.

        What the poison fails to add to what the attacker has anyway, drop of accuracy (a gain
        counts as no drop), poisons, L-infinity, dissimilarity.
        """
        linf, similar = {"labels": (0.0, 1.0)}.get(self.shows, (math.inf, -math.inf))
        if self.shows == "trigger":
            linf, similar = (self.row.figures[name].value or 0.0 for name in (LINF, SSIM))
        added, drop = self.row.figures[ADDED].value or 0.0, self.drop.value or 0.0
        return (
            round(1 - added, _DIGITS),
            round(max(0.0, drop), _DIGITS),
            self.poisoned,
            round(linf, _DIGITS),
            -round(similar, _DIGITS),
        )


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Settings that attack the same system.

    Attributes:
        system: What sets the system apart, or empty.
        settings: All points, by the number of poisons.
        missing: Attackers who want one class, without the figures that make a point.
        collapsed: Those whose victims collapsed with every seed: their success is no backdoor.
        untargeted: Attackers who want any error, whose success is the accuracy once more.
    """

    system: str
    settings: tuple[Setting, ...]
    missing: tuple[Poisoning, ...]
    collapsed: tuple[Poisoning, ...]
    untargeted: tuple[Poisoning, ...]

    @property
    def best(self) -> tuple[Setting, ...]:
        """The points on the frontier."""
        return tuple(s for s in self.settings if s.best)


def frontiers(rows: Sequence[Poisoning]) -> tuple[Frontier, ...]:
    """Return the frontier of each system that somebody attacks with one class in mind."""
    found = []
    for system in systems(undefended(rows)):
        wanting = [row for row in system.rows if row.first.targeted]
        collapsed = [row for row in wanting if _collapsed(row)]
        wanting = [row for row in wanting if not _collapsed(row)]
        points = {id(row): s for row in wanting if (s := _setting(row)) is not None}
        if not points and not collapsed:
            continue
        found.append(
            Frontier(
                system=system.words,
                settings=_marked(list(points.values())),
                missing=tuple(row for row in wanting if id(row) not in points),
                collapsed=tuple(collapsed),
                untargeted=tuple(
                    row
                    for row in system.rows
                    if not row.first.targeted and not row.first.threat.control
                ),
            )
        )
    return tuple(found)


def _collapsed(row: Poisoning) -> bool:
    """Return whether no victim has a backdoor: each answers the target without the trigger."""
    return 0 < row.seeds == row.collapsed


def _setting(row: Poisoning) -> Setting | None:
    success, drop = row.figures.get(SUCCESS), row.figures.get(DROP)
    if success is None or drop is None or not row.poisoned:
        return None
    shows: Literal["trigger", "labels", "unknown"] = "unknown"
    if LINF in row.figures and SSIM in row.figures:
        shows = "trigger"
    elif row.relabeled == row.poisoned:
        shows = "labels"
    return Setting(row=row, success=success, drop=drop, poisoned=row.poisoned, shows=shows)


def _marked(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """Return the settings by their poisons, those that another dominates marked as such."""
    best: set[tuple[float, ...]] = set()
    for costs in sorted({s.costs for s in settings}):
        # what dominates others sorts before them, and something on the frontier does so too
        if not any(_dominates(one, costs) for one in best):
            best.add(costs)
    marked = [replace(s, best=s.costs in best) for s in settings]
    return tuple(sorted(marked, key=lambda s: (s.poisoned, s.costs[0], s.row.first.number)))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return whether one is nowhere worse than the other and somewhere better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
