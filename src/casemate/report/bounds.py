"""Whether victims kept what an attack promises of their accuracy: a one-sided test over seeds."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from casemate.report.poisonings import DROP, WORST_DROP

if TYPE_CHECKING:
    from casemate.report.poisonings import Poisoning
    from casemate.stats import Measurement

__all__ = ["Bound", "bounds"]

_PROMISES = {DROP: "delta", WORST_DROP: "delta_class"}
"""Parameters of an attack that promises; both belong to a promise."""
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A promise that a drop is at most so large.

    Attributes:
        name: Of the drop.
        most: What the attack's parameters allow, as a share.
        upper: Upper end of Student's one-sided 95 % interval of the mean over seeds, and no less
            than the seeds' own upper ends on average: all are judged on the same samples, and a
            hundred of them cannot show a drop of less than 3 points even if none is lost. None with
            fewer than two seeds. A worst class is looked for anew with each seed, so that its bound
            is rather too strict.
        verdict: "kept" if that end is within the bound, "broken" if the lower end of Student's
            interval on the other side is beyond it, else "not shown".
    """

    name: str
    most: float
    upper: float | None
    verdict: Literal["kept", "broken", "not shown"]


def bounds(row: Poisoning) -> dict[str, Bound]:
    """Return the promises of an attack by the name of the drop; none where it makes none."""
    attack = row.first.trial.settings["training"].get("attack") or {}
    found: dict[str, Bound] = {}
    if not set(_PROMISES.values()) <= attack.keys():
        return found  # what another attack calls delta may be anything, an amplitude for one
    for name, parameter in _PROMISES.items():
        measured = [
            m for f in row.trials if (m := f.measurement(name)) is not None and m.value is not None
        ]
        found[name] = _bound(name, float(attack[parameter]), measured)
    return found


def _bound(name: str, most: float, measured: list[Measurement]) -> Bound:
    from scipy.stats import t as student  # noqa: PLC0415 - slow to import

    drops = [m.value for m in measured if m.value is not None]
    n = len(drops)
    if n < 2:  # noqa: PLR2004 - one value has no deviation
        return Bound(name=name, most=most, upper=None, verdict="not shown")
    middle = statistics.fmean(drops)
    reach = float(student.ppf(_LEVEL, n - 1)) * statistics.stdev(drops) / math.sqrt(n)
    verdict: Literal["kept", "broken", "not shown"] = "not shown"
    # of one sample alone nothing is known
    own = [1.0 if m.high is None else m.high for m in measured]
    upper = max(middle + reach, statistics.fmean(own))
    if upper <= most:
        verdict = "kept"
    elif middle - reach > most:
        verdict = "broken"
    return Bound(name=name, most=most, upper=upper, verdict=verdict)
