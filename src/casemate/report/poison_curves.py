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
from casemate.report.poisonings import ACCURACY, CONFIDENCE, NULL, SEED, TOP_5, over_seeds
from casemate.report.standing import NOTHING, column, standing
from casemate.report.strength import intensity, share
from casemate.report.text import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts
    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["poison_charts"]

_MEASURES = (SUCCESS, ACCURACY, TOP_5, CONFIDENCE)
_OF_THE_REFERENCE = {SUCCESS: NULL, ACCURACY: "accuracy without the attack"}
Over = Literal["share", "intensity"]


def poison_charts(rows: Sequence[Poisoning]) -> tuple[Chart, ...]:
    """Return charts of what poison does over the poisoned share and over the intensity.

    Of success, clean accuracy, top-5 accuracy (of more than five classes) and confidence in the
    true class, as far as they were measured.
    A chart holds attacks on the same model with the same defense; a series is one attack in which
    nothing varies but what x is. An attack with one value of x makes no curve. Where it was
    measured, a curve begins at 0 with what is so without an attack.
    """
    systems: dict[str, list[Poisoning]] = defaultdict(list)
    nobody: dict[str, Poisoning] = {}
    for row in rows:
        key = share_key(row.first, *SEED, "training.attack")
        if row.null:
            nobody[key] = row
        elif row.poisoned is not None:
            systems[key].append(row)
    overs: tuple[Over, ...] = ("share", "intensity")
    firsts = [members[0].first for members in systems.values()]
    words = _systems(firsts)
    return tuple(
        replace(chart, system=words[members[0].first.number])
        for key, members in systems.items()
        for over in overs
        for measure in _MEASURES
        for chart in _charts(members, measure, over, nobody.get(key))
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
        found[number] = whole(words)
    return found


def _charts(
    rows: Sequence[Poisoning], measure: str, over: Over, nobody: Poisoning | None
) -> list[Chart]:
    runs: dict[str, list[Poisoning]] = defaultdict(list)
    for row in rows:
        # the success of who wants any error is the accuracy once more
        if _x(row, over) is not None and (measure != SUCCESS or row.first.targeted):
            runs[json.dumps(_fixed(row, over), sort_keys=True, default=str)].append(row)
    firsts = [run[0] for run in runs.values()]
    curves = [(run, _points(run, measure, over)) for run in runs.values()]
    series = [
        Series(
            label=_label(first, firsts, over),
            name=first.first.attack,
            brief=_brief(first, firsts, over),
            kind="budget",
            control=False,
            points=(*_origin(runs_of, measure, nobody), *points),
        )
        for first, (runs_of, points) in zip(firsts, curves, strict=True)
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
        point
        for row in run
        if (x := _x(row, over)) is not None
        and (point := _point(x, row.figures.get(measure), row)) is not None
    ]
    return tuple(sorted(points, key=lambda p: p.x))


def _origin(run: Sequence[Poisoning], measure: str, nobody: Poisoning | None) -> tuple[Point, ...]:
    """Return the point at 0: nobody attacks, and the same defense stands.

    Of success it is what the same trigger does to the model that saw no poison, of accuracy else
    that model's own; it has no defense at training, so that it is no point where there is one.
    """
    if nobody is not None and measure in nobody.figures and measure != SUCCESS:
        found = _point(0.0, nobody.figures[measure], nobody)
        return () if found is None else (found,)
    name = _OF_THE_REFERENCE.get(measure)
    if name is None or run[0].first.training_defense is not None:
        return ()
    # the rows of a run share their references; that with the most seeds knows it best
    row = max(run, key=lambda r: r.seeds)
    found = _point(0.0, over_seeds([f.measurement(name) for f in row.trials]), row)
    return () if found is None else (found,)


def _point(x: float, found: Measurement | None, row: Poisoning) -> Point | None:
    if found is None or found.value is None:
        return None
    return Point(
        x=x,
        value=found.value,
        low=found.value if found.low is None else found.low,
        high=found.value if found.high is None else found.high,
        n=row.seeds,
        trial=row.first.number,
    )


def _label(row: Poisoning, others: Sequence[Poisoning], over: Over) -> str:
    """Return the attack's name with what sets it apart from its namesakes."""
    words = parameters_in_words(_differing(row, others, over))
    return f"{row.first.attack} ({words})" if words else row.first.attack


def _brief(row: Poisoning, others: Sequence[Poisoning], over: Over) -> str:
    """Return what sets the attack apart from its namesakes; of several parameters the values."""
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
