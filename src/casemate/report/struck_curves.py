"""What bit errors and flipped bits do to accuracy, as curves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from casemate.report.curves import Chart, Point, Series
from casemate.report.facts import SUCCESS, parameters_in_words, set_apart, share_key, varying
from casemate.report.plots import MOST_SERIES
from casemate.report.poisonings import ACCURACY, SEED
from casemate.report.possible import as_wide_as
from casemate.report.struck import UNDER, format_in_words
from casemate.stats import mean, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.report.facts import Facts
    from casemate.report.struck import Struck

__all__ = ["struck_charts"]

_DEFENDED = ("hardware.defense", "hardware.attacker")
_OF_ERRORS = (*SEED, *_DEFENDED, "hardware.format", "hardware.attack")
_OF_FLIPS = (*SEED, "hardware.attacker", "hardware.attack", "hardware.rowhammer")
_MOST_STEPS = 120
_COLUMNS = {UNDER: "accuracy", SUCCESS: "success"}
Over = Literal["rate", "flips"]


def struck_charts(rows: Sequence[Struck]) -> tuple[Chart, ...]:
    """Return charts of accuracy over the bit error rate and over the bits that were flipped.

    Of bit errors a chart holds all formats and defenses of one model; of flips all attacks on one
    model in one format behind one defense, and of those that lead to a class another one with their
    success. An attack with one rate makes no curve.
    """
    errors = [r for r in rows if _attack(r).get("rate") is not None and UNDER in r.figures]
    flips = [r for r in rows if _have(r.trials, UNDER)]
    led = [r for r in rows if _have(r.trials, SUCCESS)]
    return (
        *_charts(errors, _OF_ERRORS, _error_series, UNDER, "rate"),
        *_charts(flips, _OF_FLIPS, partial(_flip_series, UNDER), UNDER, "flips"),
        *_charts(led, _OF_FLIPS, partial(_flip_series, SUCCESS), SUCCESS, "flips"),
    )


def _charts(
    rows: Sequence[Struck],
    apart: tuple[str, ...],
    made: Callable[[Sequence[Struck]], list[Series]],
    measure: str,
    over: Over,
) -> list[Chart]:
    groups: dict[str, list[Struck]] = defaultdict(list)
    for row in rows:
        groups[share_key(row.first, *apart)].append(row)
    firsts = [members[0].first for members in groups.values()]
    words = varying(firsts, *apart, "hardware.format", *_DEFENDED)
    found = []
    for members in groups.values():
        series = made(members)
        found += [
            Chart(
                norm="",
                series=tuple(series[i : i + MOST_SERIES]),
                measure=measure,
                over=over,
                system=_system(members[0].first, over, words),
            )
            for i in range(0, len(series), MOST_SERIES)
        ]
    return found


def _system(first: Facts, over: Over, words: dict[int, str]) -> str:
    """Return what sets the model of a chart apart: of flips its format and defense."""
    own = [format_in_words(first), _defense(first)] if over == "flips" else []
    return ", ".join(w for w in (*own, words[first.number]) if w)


def _error_series(rows: Sequence[Struck]) -> list[Series]:
    """Return one curve a format and defense, which begins at 0 with the clean accuracy."""
    runs: dict[str, list[Struck]] = defaultdict(list)
    for row in rows:
        runs[share_key(row.first, *SEED, "hardware.attack.rate")].append(row)
    series = []
    for run in runs.values():
        points = [_point(float(_attack(r)["rate"]), r, UNDER) for r in run]
        if len({p.x for p in points}) < 2:  # noqa: PLR2004 - no curve
            continue
        first = run[0].first
        apart = set_apart(first, [r.first for r in rows])  # such as layers
        brief = ", ".join(w for w in (_words_of_defense(first), apart) if w)
        origin = [_point(0.0, run[0], ACCURACY)] if ACCURACY in run[0].figures else []
        series.append(
            Series(
                label=", ".join(w for w in (format_in_words(first), brief) if w),
                name=format_in_words(first),
                brief=brief,
                kind="budget",
                control=False,
                points=tuple(sorted([*origin, *points], key=lambda p: p.x)),
            )
        )
    return series


def _flip_series(measure: str, rows: Sequence[Struck]) -> list[Series]:
    """Return one curve an attack and defense: the mean over seeds after so many flips."""
    names = [r.first.attack for r in rows]
    series = []
    for row in rows:
        first = row.first
        alike = [r.first for r in rows if r.first.attack == first.attack]
        module = f"rowhammer {row.module}" if row.module else ""
        words = (set_apart(first, alike), first.hardware.get("attacker"), module)
        brief = ", ".join(w for w in words if w)
        label = (
            f"{first.attack} ({brief})" if names.count(first.attack) > 1 and brief else first.attack
        )
        series.append(
            Series(
                label=label,
                name=first.attack,
                brief=brief,
                kind="flips",
                control=first.threat.control,
                points=_steps(row, measure),
            )
        )
    return series


def _defense(first: Facts) -> str:
    """Return the name of a model's defense; empty without one."""
    defense = first.hardware.get("defense")
    return "" if not defense else str(defense.get("name", "unnamed"))


def _words_of_defense(first: Facts) -> str:
    """Return a model's defense with its parameters; empty without one."""
    defense = first.hardware.get("defense") or {}
    rest = parameters_in_words({k: v for k, v in defense.items() if k != "name"})
    return " ".join(w for w in (_defense(first), rest) if w)


def _steps(row: Struck, measure: str) -> tuple[Point, ...]:
    """Return the mean of a figure over seeds after so many flips; a search that ended stays there.

    From those flips on for which there is a figure of every seed.
    """
    runs = [run for f in row.trials if (run := _run(f, measure))]
    samples = max(m.n for f in row.trials if (m := f.measurement(measure)) is not None)
    begun = max(run[0][0] for run in runs)
    steps = sorted({x for run in runs for x, _ in run if x >= begun})
    if len(steps) > _MOST_STEPS:
        steps = [steps[round(i * (len(steps) - 1) / (_MOST_STEPS - 1))] for i in range(_MOST_STEPS)]
    points = []
    for x in steps:
        values = [_at(run, x) for run in runs]
        ends = [wilson(round(v * samples), samples) for v in values]
        found = mean(measure, values, "1")
        if len(values) == 1:  # what another seed would do is not known, what the samples leave is
            found = replace(found, low=ends[0][0], high=ends[0][1])
        found = as_wide_as(found, ends)
        assert found.value is not None  # noqa: S101 - there is a run
        points.append(
            Point(
                x=float(x),
                value=found.value,
                low=found.value if found.low is None else found.low,
                high=found.value if found.high is None else found.high,
                n=len(runs),
                trial=row.first.number,
            )
        )
    return tuple(points)


def _run(f: Facts, measure: str) -> list[tuple[int, float]]:
    """Return (bits flipped, figure) of one trial by growing x: of accuracy from 0 on."""
    table = _table(f)
    run: list[tuple[int, float]] = []
    clean = f.measurement(ACCURACY)
    if table and measure == UNDER and clean is not None and clean.value is not None:
        run.append((0, clean.value))
    for x, value in zip(
        table.get("bits flipped", ()), table.get(_COLUMNS[measure], ()), strict=True
    ):
        if value is None:  # of no input
            continue
        # a bit that was flipped back makes fewer, but took another flip
        run.append((max(int(x), run[-1][0] if run else 0), float(value)))
    return run


def _at(run: Sequence[tuple[int, float]], x: int) -> float:
    return [value for at, value in run if at <= x][-1]


def _table(f: Facts) -> dict[str, list[Any]]:
    return {} if f.trial.evidence is None else f.trial.evidence.tables.get("flips", {})


def _have(trials: Sequence[Facts], measure: str) -> bool:
    return any(v is not None for f in trials for v in _table(f).get(_COLUMNS[measure], ()))


def _attack(row: Struck) -> dict[str, Any]:
    return row.first.hardware.get("attack") or {}


def _point(x: float, row: Struck, name: str) -> Point:
    found = row.figures[name]
    value = found.value or 0.0
    return Point(
        x=x,
        value=value,
        low=value if found.low is None else found.low,
        high=value if found.high is None else found.high,
        n=row.seeds,
        trial=row.first.number,
    )
