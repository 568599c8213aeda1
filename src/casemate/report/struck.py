"""Attacks on deployed models side by side: what each does behind each defense, over its seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from casemate.report.facts import SUCCESS, share_key
from casemate.report.poisonings import ACCURACY, DROP, NULL, SEED, over_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts
    from casemate.stats import Measurement

__all__ = ["UNDER", "Struck", "format_in_words", "struck", "words_of_format"]

UNDER = "accuracy under attack"
_FLIPS, _UNTIL = "bits flipped", "bits flipped until the goal"
_FIGURES = (
    SUCCESS,
    NULL,
    ACCURACY,
    "accuracy before deployment",
    DROP,
    UNDER,
    _FLIPS,
    "mean corruption",
    "mean accuracy drop",
    "critical faults",
    "faults detected",
    "faults repaired",
    "false alarms of the defense",
    "storage of the defense",
    "operations of the defense",
)


@dataclass(frozen=True, kw_only=True)
class Struck:
    """Trials that end with the deployed model and differ in nothing but the seed.

    Attributes:
        first: Any of them.
        trials: All of them.
        figures: By name, over the seeds, as `Poisoning.figures`.
        until: Bits flipped until the goal, of each seed with evidence, ascending; infinite where it
            was not reached. Empty where the attack has no goal.
    """

    first: Facts
    trials: tuple[Facts, ...]
    figures: dict[str, Measurement]
    until: tuple[float, ...] = ()

    @property
    def seeds(self) -> int:
        """How many seeds there is evidence for."""
        return sum(f.trial.evidence is not None for f in self.trials)

    @property
    def format(self) -> str:
        """The number format in words: "int8, one scale a tensor"."""
        return format_in_words(self.first)

    @property
    def module(self) -> str:
        """The hammered memory module in words: "A_2, 1 a page"; empty without one."""
        module = self.first.hardware.get("rowhammer")
        if not module:
            return ""
        name = module.get("file") or module.get("profile") or "unknown"
        return f"{name}, {module.get('per_page', 1)} a page"

    @property
    def flips(self) -> str:
        """Flips until the goal over the seeds, in words; empty where there is no goal."""
        reached = [n for n in self.until if math.isfinite(n)]
        if not self.until:
            return ""
        if not reached:
            return "not reached"
        middle = median(self.until)
        ends = f"{reached[0]:g} to {reached[-1]:g}" if len(reached) > 1 else ""
        of = f"{len(reached)} of {len(self.until)} seeds" if len(self.until) > 1 else ""
        first = f"{middle:g}" if math.isfinite(middle) else "median not reached"
        rest = "; ".join(words for words in (ends, of) if words)
        return f"{first} ({rest})" if rest else first


def struck(facts: Sequence[Facts]) -> tuple[Struck, ...]:
    """Return the trials that end with a deployed model, one row for all seeds of a setting."""
    groups: dict[str, list[Facts]] = {}
    for f in facts:
        if f.at_hardware:
            groups.setdefault(share_key(f, *SEED), []).append(f)
    return tuple(_struck(group) for group in groups.values())


def format_in_words(first: Facts) -> str:
    """Return the number format of a trial in words."""
    return words_of_format(first.hardware.get("format") or {})


def words_of_format(form: dict[str, Any]) -> str:
    """Return a number format's settings in words: what is as by default is left out."""
    name = str(form.get("name", "unknown"))
    if not name.startswith("int"):
        return name
    words = [name]
    if form.get("scheme") == "affine":
        words.append("affine")
    if form.get("granularity") == "tensor":
        words.append("one scale a tensor")
    if form.get("activations") == "float32":
        words.append("float32 activations")
    return ", ".join(words)


def _struck(group: Sequence[Facts]) -> Struck:
    figures = {
        name: found
        for name in _FIGURES
        if (found := over_seeds([f.measurement(name) for f in group])) is not None
    }
    until = [m for f in group if (m := f.measurement(_UNTIL)) is not None]
    return Struck(
        first=group[0],
        trials=tuple(group),
        figures=figures,
        until=tuple(sorted(math.inf if m.value is None else m.value for m in until)),
    )
