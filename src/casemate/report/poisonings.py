"""Attacks on training side by side: what each one costs and buys, over all of its seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casemate.evidence import ONCE_A_TRIAL
from casemate.report.facts import SUCCESS, share_key
from casemate.report.possible import ADDED, as_wide_as, within_shares
from casemate.stats import Measurement, difference, mean, rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = [
    "ACCURACY",
    "ADDED",
    "ALREADY",
    "BUYS",
    "CONFIDENCE",
    "COSTS",
    "DROP",
    "FLOORS",
    "LINF",
    "NULL",
    "SEED",
    "SSIM",
    "TOP_5",
    "WORST_DROP",
    "Poisoning",
    "over_seeds",
    "poisonings",
    "within_shares",
]

NULL = "attack success rate without the attack"
ALREADY = "target answered without the trigger"
ACCURACY = "clean accuracy"
TOP_5, CONFIDENCE = "clean top-5 accuracy", "confidence in true class, clean"
DROP, WORST_DROP = "clean accuracy drop", "worst class accuracy drop"
LINF, SSIM = "distance linf", "ssim"
BUYS = (SUCCESS, NULL, ALREADY, ACCURACY, TOP_5, CONFIDENCE)
FLOORS = {name: f"{name} of another clean model" for name in (DROP, WORST_DROP)}
"""What a drop is read against: that of a clean model of another seed."""
COSTS = (DROP, WORST_DROP, LINF, SSIM)
_DEFENSE = (
    "precision of removal",
    "recall of removal",
    "area under the curve",
    "certified poisons",
    *ONCE_A_TRIAL,
    "epsilon",
    "monitor detection",
    "monitor false alarms",
    "monitor area under the curve",
    "monitor detection without the attack",
    "monitor area under the curve without the attack",
)
SEED = ("seed", "model_digest", "samples")
"""Settings in which the trials of one row may differ."""


@dataclass(frozen=True, kw_only=True)
class Poisoning:
    """Trials that differ in nothing but the seed.

    Attributes:
        first: Any of them.
        trials: All of them.
        figures: By name, over the seeds: their mean with Student's t interval, cut to what is
            possible; what a trial answers with yes or no as a share of the seeds with Wilson's; of
            a single trial its own figure.
        poisoned: Samples that the attacker touched, or None; where seeds differ the most.
        least: The fewest that it touched with any seed, or None.
        relabeled: How many got another label, with the seed of `poisoned`, or None.
    """

    first: Facts
    trials: tuple[Facts, ...]
    figures: dict[str, Measurement]
    poisoned: int | None
    least: int | None = None
    relabeled: int | None = None

    @property
    def seeds(self) -> int:
        """How many seeds there is evidence for."""
        return sum(f.trial.evidence is not None for f in self.trials)

    @property
    def collapsed(self) -> int:
        """With how many seeds the victim answers the target without the trigger as well."""
        return sum(bool(f.collapse) for f in self.trials)

    @property
    def null(self) -> bool:
        """Whether nobody attacks, so that it shows what a defense does by itself."""
        return self.first.trial.settings["training"].get("attack") is None


def poisonings(facts: Sequence[Facts]) -> tuple[Poisoning, ...]:
    """Return the trials that end with a trained model, one row for all seeds of a setting."""
    groups: dict[str, list[Facts]] = {}
    for f in facts:
        if f.at_training:
            groups.setdefault(share_key(f, *SEED), []).append(f)
    return tuple(_poisoning(group) for group in groups.values())


def _poisoning(group: Sequence[Facts]) -> Poisoning:
    figures = {
        name: found
        for name in (*BUYS, *COSTS, *FLOORS.values(), *_DEFENSE)
        if (found := over_seeds([f.measurement(name) for f in group])) is not None
    }
    if (added := over_seeds([_added(f) for f in group])) is not None:
        figures[ADDED] = added
    spent = [f.trial.evidence.spent for f in group if f.trial.evidence is not None]
    # an attacker who rehearses may take fewer with one seed than with another
    counted = [s for s in spent if "poisoned samples" in s]
    most = max(counted, key=lambda s: s["poisoned samples"], default={})
    return Poisoning(
        first=group[0],
        trials=tuple(group),
        figures=figures,
        poisoned=most.get("poisoned samples"),
        least=min((s["poisoned samples"] for s in counted), default=None),
        relabeled=most.get("relabeled samples"),
    )


def _added(f: Facts) -> Measurement | None:
    """Return what the poison of one trial adds to what the attacker has anyway.

    That is what the same trigger does to a model that saw no poison, or, where it is more, how
    often the victim gives the answer without the trigger: a model that gives it to everything has
    no backdoor. Without a trigger all success beyond the clean model's is the poison's own.
    """
    success, null, already = (f.measurement(name) for name in (SUCCESS, NULL, ALREADY))
    if success is None or success.value is None:
        return None
    if null is None and already is None:
        return replace(success, name=ADDED)
    assert f.trial.evidence is not None  # noqa: S101 - it has measurements
    samples = f.trial.evidence.samples
    without = samples["reference_success"]
    if _share(already) > _share(null):
        without = samples["eligible"] & (samples["clean_label"] == samples["goal"])
    hit = samples["success"]
    counts = (int((hit & ~without).sum()), int((without & ~hit).sum()), success.n)
    return difference(ADDED, *counts)


def _share(found: Measurement | None) -> float:
    return 0.0 if found is None or found.value is None else found.value


def over_seeds(found: Sequence[Measurement | None]) -> Measurement | None:
    """Return the mean over seeds; of one seed its own figure, of none None.

    Student's t interval of the seeds' values says how trainings differ. All of them are judged on
    the same samples, and what these leave open no further seed would settle: the interval reaches
    at least as far as those of the seeds do on average, and keeps to what is possible. Yes and no
    are counted.
    """
    measured = [m for m in found if m is not None and m.value is not None]
    if len(measured) <= 1:
        return within_shares(measured[0]) if measured else None
    first, values = measured[0], [m.value for m in measured if m.value is not None]
    if first.name in ONCE_A_TRIAL:
        return rate(first.name, sum(map(round, values)), len(values))
    own = [(m.low, m.high) for m in measured if m.low is not None and m.high is not None]
    # some seeds' intervals say nothing of the others'
    known = own if len(own) == len(measured) else []
    return as_wide_as(mean(first.name, values, first.unit), known)
