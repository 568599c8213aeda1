"""Success of attacks against what bounds them, gathered from trials that differ in nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from casemate.report.facts import NORMS, SUCCESS, parameters_in_words, share_key
from casemate.stats import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = ["Chart", "Point", "Series", "charts"]

_MOST_STEPS = 120
"""Points of a curve over distances; more cannot be told apart at the size it is drawn."""


_UNDER = {
    "share": "under poisoning",
    "intensity": "under poisoning",
    "rate": "under bit errors",
    "flips": "under flipped bits",
}
_COLUMNS = {
    "share": "poisoned, %",
    "intensity": "intensity",
    "rate": "bit error rate",
    "flips": "bits flipped",
}
_AXES = {**_COLUMNS, "share": "poisoned training samples, %"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A figure at one x: share, 95 % interval and what is behind it.

    Attributes:
        x: Budget, or how much is poisoned or how strongly; there 0 is nobody's attack.
        value: The share.
        low: Lower end of its interval.
        high: Upper end.
        n: Samples; of attacks on training seeds.
        trial: A trial that it comes from.
    """

    x: float
    value: float
    low: float
    high: float
    n: int
    trial: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """One attack.

    Attributes:
        label: Its name, and its parameters where the name alone is not enough; untrusted text.
        kind: "budget": one trial a point, success within epsilon. "distance": one trial in all,
            the share of samples fooled by a perturbation no longer than x. "flips": the model after
            each flip, over all seeds.
        control: Whether it is noise to compare with.
        points: By growing x.
        name: What stands beside the curve; untrusted text, as the next. Empty for the label.
        brief: What stands below that, where others have the same name.
    """

    label: str
    kind: Literal["budget", "distance", "flips"]
    control: bool
    points: tuple[Point, ...]
    name: str = ""
    brief: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Attacks on the same system with the same goal, in the same norm or over the same quantity.

    Attributes:
        norm: "linf", "l2", ... or "" where unknown.
        series: One an attack.
        measure: What y is.
        over: What x is: how far an input is moved, the share of training samples that is poisoned,
            in percent, how strong the poison is, the share of wrong bits of memory, or how many
            bits were flipped.
        system: What sets the attacked system apart from those of other figures, or empty; text
            from the user.
    """

    norm: str
    series: tuple[Series, ...]
    measure: str = SUCCESS
    over: Literal["perturbation", "share", "intensity", "rate", "flips"] = "perturbation"
    system: str = ""

    @property
    def title(self) -> str:
        """What the figure shows, in a few words."""
        if self.over == "perturbation":
            return "Robustness against budget"
        words = self.measure.removesuffix(", clean").removesuffix(" under attack")
        of = f": {self.system}" if self.system else ""
        return f"{words[:1].upper()}{words[1:]} {_UNDER[self.over]}{of}"

    @property
    def column(self) -> str:
        """What x is, as the head of a column."""
        if self.over != "perturbation":
            return _COLUMNS[self.over]
        return f"{NORMS.get(self.norm, '')} at most".strip()

    @property
    def axis(self) -> str:
        """What x is, in words."""
        if self.over != "perturbation":
            return _AXES[self.over]
        norm = NORMS.get(self.norm, self.norm)
        kinds = {s.kind for s in self.series}
        if kinds == {"distance"}:
            return f"{norm} distance from the clean input".strip()
        if kinds == {"budget"}:
            return f"{norm} budget ε, in the domain's units".strip()
        return f"{norm} budget ε or distance, in the domain's units".strip()


def charts(facts: Sequence[Facts]) -> dict[int, Chart]:
    """Return the chart that each trial with a success rate belongs to, by trial number.

    Trials in one chart are equal in all settings but the attack; those in one series are equal in
    all settings but epsilon.
    """
    groups: dict[tuple[str, str], list[Facts]] = defaultdict(list)
    for f in facts:
        if f.success is not None and not f.at_training and not f.at_hardware:
            groups[share_key(f, "attack"), f.norm or ""].append(f)
    found: dict[int, Chart] = {}
    for (_, norm), members in groups.items():
        chart = Chart(norm=norm, series=_series(members))
        if not chart.series:
            continue
        found.update(dict.fromkeys((f.number for f in members), chart))
    return found


def _series(members: Sequence[Facts]) -> tuple[Series, ...]:
    runs: dict[str, list[Facts]] = defaultdict(list)
    for f in members:
        searched = f.epsilon is None
        key = json.dumps([f.attack, f.parameters, searched], sort_keys=True, default=str)
        runs[key].append(f)
    firsts = [run[0] for run in runs.values()]
    return tuple(
        Series(
            label=_label(run[0], firsts),
            kind="distance" if run[0].epsilon is None else "budget",
            control=run[0].threat.control,
            points=points,
        )
        for run in runs.values()
        if (points := _distances(run[0]) if run[0].epsilon is None else _budgets(run))
    )


def _label(facts: Facts, others: Sequence[Facts]) -> str:
    """Return the attack's name with those parameters in which its namesakes differ from it."""
    namesakes = [o for o in others if o.attack == facts.attack and o is not facts]
    differing = {
        name: value
        for name, value in facts.parameters.items()
        if any(o.parameters.get(name) != value for o in namesakes)
    }
    words = parameters_in_words(differing)
    return f"{facts.attack} ({words})" if words else facts.attack


def _budgets(run: Sequence[Facts]) -> tuple[Point, ...]:
    points = [
        Point(x=f.epsilon, value=m.value, low=m.low, high=m.high, n=m.n, trial=f.number)
        for f in run
        if (m := f.success) is not None
        and f.epsilon is not None
        and m.value is not None
        and m.low is not None
        and m.high is not None
    ]
    return tuple(sorted(points, key=lambda p: p.x))


def _distances(facts: Facts) -> tuple[Point, ...]:
    evidence = facts.trial.evidence
    norm = facts.norm or ""
    if evidence is None or not {"eligible", "success", norm} <= evidence.samples.keys():
        return ()
    eligible = evidence.samples["eligible"].astype(bool)
    n = int(eligible.sum())
    fooled = eligible & evidence.samples["success"].astype(bool)
    distances = np.sort(evidence.samples[norm][fooled].astype(np.float64))
    distances = distances[np.isfinite(distances)]
    if n == 0 or not len(distances):
        return ()
    reached = np.arange(1, len(distances) + 1)
    keep = np.unique(np.linspace(0, len(distances) - 1, _MOST_STEPS).round().astype(int))
    return tuple(
        Point(x=float(x), value=k / n, low=low, high=high, n=n, trial=facts.number)
        for x, k in zip(distances[keep].tolist(), reached[keep].tolist(), strict=True)
        for low, high in (wilson(k, n),)
    )
