"""What poisoning does, against how much is poisoned and how strongly, gathered from all trials."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from casemate.report import formats
from casemate.report.curves import Chart, Point, Series
from casemate.report.facts import SUCCESS, parameters_in_words, share_key, varying
from casemate.report.plots import MOST_SERIES
from casemate.report.poisonings import ACCURACY, CONFIDENCE, SEED, TOP_5
from casemate.report.standing import NOTHING, column, standing
from casemate.report.strength import intensity, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts
    from casemate.report.poisonings import Poisoning

__all__ = ["poison_charts"]

_MEASURES = (SUCCESS, ACCURACY, TOP_5, CONFIDENCE)
_LONGEST = 90  # characters of a title that tell systems apart
Over = Literal["share", "intensity"]


def poison_charts(rows: Sequence[Poisoning]) -> tuple[Chart, ...]:
    """Return charts of what poison does over the poisoned share and over the intensity.

    Of success, clean accuracy, top-5 accuracy (of more than five classes) and confidence in the
    true class, as far as they were measured.
    A chart holds attacks on the same model with the same defense; a series is one attack in which
    nothing varies but what x is. An attack with one value of x makes no curve.
    """
    systems: dict[str, list[Poisoning]] = defaultdict(list)
    for row in rows:
        if row.poisoned is not None:
            systems[share_key(row.first, *SEED, "training.attack")].append(row)
    overs: tuple[Over, ...] = ("share", "intensity")
    firsts = [members[0].first for members in systems.values()]
    words = _systems(firsts)
    return tuple(
        replace(chart, system=words[members[0].first.number])
        for members in systems.values()
        for over in overs
        for measure in _MEASURES
        for chart in _charts(members, measure, over)
    )


def _systems(firsts: Sequence[Facts]) -> dict[int, str]:
    """Return by the number of each system's first trial what sets it apart, where anything does."""
    others = varying(firsts, *SEED, "training.attack")
    stands = {
        f.number: "no defense" if column(f) == NOTHING else s.name
        for f, s in zip(firsts, standing(firsts), strict=True)
    }
    alike = len(set(stands.values())) < 2  # noqa: PLR2004 - one defense sets nobody apart
    found = {}
    for number, other in others.items():
        words = ", ".join(w for w in ("" if alike else stands[number], other) if w)
        found[number] = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
    return found


def _charts(rows: Sequence[Poisoning], measure: str, over: Over) -> list[Chart]:
    runs: dict[str, list[Poisoning]] = defaultdict(list)
    for row in rows:
        # the success of who wants any error is the accuracy once more
        if _x(row, over) is not None and (measure != SUCCESS or row.first.targeted):
            runs[json.dumps(_fixed(row, over), sort_keys=True, default=str)].append(row)
    firsts = [run[0] for run in runs.values()]
    curves = [(run[0], _points(run, measure, over)) for run in runs.values()]
    series = [
        Series(
            label=_label(first, firsts, over),
            brief=_brief(first, firsts, over),
            kind="budget",
            control=False,
            points=points,
        )
        for first, points in curves
        if len({p.x for p in points}) > 1
    ]
    return [
        Chart(norm="", series=tuple(series[i : i + MOST_SERIES]), measure=measure, over=over)
        for i in range(0, len(series), MOST_SERIES)
    ]


def _fixed(row: Poisoning, over: Over) -> dict[str, object]:
    """Return what stays the same along a curve."""
    attack = dict(row.first.trial.settings["training"]["attack"])
    attack.pop("amount" if over == "share" else "intensity", None)
    return attack


def _x(row: Poisoning, over: Over) -> float | None:
    return intensity(row) if over == "intensity" else share(row)


def _points(run: Sequence[Poisoning], measure: str, over: Over) -> tuple[Point, ...]:
    points = [
        Point(
            x=x,
            value=m.value,
            low=m.value if m.low is None else max(0.0, m.low),
            high=m.value if m.high is None else min(1.0, m.high),
            n=m.n,
            trial=row.first.number,
        )
        for row in run
        if (x := _x(row, over)) is not None
        and (m := row.figures.get(measure)) is not None
        and m.value is not None
    ]
    return tuple(sorted(points, key=lambda p: p.x))


def _label(row: Poisoning, others: Sequence[Poisoning], over: Over) -> str:
    """Return the attack's name with what sets it apart from its namesakes."""
    words = parameters_in_words(_differing(row, others, over))
    return f"{row.first.attack} ({words})" if words else row.first.attack


def _brief(row: Poisoning, others: Sequence[Poisoning], over: Over) -> str:
    """Return only what sets the attack apart; without the names of parameters where several do."""
    found = {k: v for k, v in _differing(row, others, over).items() if v is not None}
    if len(found) == 1:
        return parameters_in_words(found)
    # how much or how strong first: a name beside the curve is cut at its end
    return ", ".join(formats.value(v) for v in reversed(found.values()))


def _differing(row: Poisoning, others: Sequence[Poisoning], over: Over) -> dict[str, object]:
    mine = _words(row, over)
    namesakes = [_words(o, over) for o in others if o.first.attack == row.first.attack]
    return {
        name: value for name, value in mine.items() if any(o.get(name) != value for o in namesakes)
    }


def _words(row: Poisoning, over: Over) -> dict[str, object]:
    words = dict(row.first.parameters)
    if over == "share":
        intensity = row.first.trial.settings["training"]["attack"].get("intensity")
        return words if intensity is None else {**words, "intensity": intensity}
    return {**words, "poisoned": row.first.budget.partition(",")[0]}
