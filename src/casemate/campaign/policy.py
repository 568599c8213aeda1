"""From evidence to a verdict.

A measured violation stands whatever the attack's health: success is its own proof. The absence of
one is worth something only if the attack worked and enough samples were attacked, so everything
else is inconclusive rather than a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.campaign.facts import NOT_LEARNED
from casemate.campaign.record import Finding
from casemate.campaign.words import chain
from casemate.errors import ExitCode, did_you_mean
from casemate.evidence import ONCE_A_TRIAL, Verdict
from casemate.stats import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from casemate.campaign.record import TrialRecord
    from casemate.campaign.rules import Rule
    from casemate.evidence import Evidence
    from casemate.stats import Measurement

__all__ = ["Judgement", "exit_code", "finding", "judge", "more_samples", "overall"]

_MOST_SAMPLES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one rule makes of one trial.

    Attributes:
        verdict: Pass, fail or inconclusive.
        reason: One sentence with value, interval, n and the limit.
        excess: By how much the limit is broken; 0 if it is not.
    """

    verdict: Verdict
    reason: str
    excess: float = 0.0


_OF_THE_ATTACKER = (
    "attack success rate",
    "confidence in target class, attacked",
    "bits flipped",
    "bits flipped until the goal",
)
"""What an attack that failed keeps low: too little of it proves nothing then."""
_BEFORE_THE_ATTACK = (
    "accuracy before deployment",
    "storage of the defense",
    "operations of the defense",
    "false alarms of the defense",
)
_OF_THE_MODEL = ("not-finite", "random-outputs")


def judge(rule: Rule, evidence: Evidence | None) -> Judgement:
    """Return what a rule makes of a trial's evidence; None is a trial that did not finish."""
    bound = _bound(rule, "")
    if evidence is None:
        return _unsettled(f"{rule.measure} must be {bound}, but the trial did not finish")
    known = {m.name: m for m in evidence.measurements}
    measured = known.get(rule.measure)
    if measured is None:
        hint = did_you_mean(rule.measure, known)
        return _unsettled(f'the trial did not measure "{rule.measure}".{hint}')
    if measured.value is None or measured.n == 0:
        return _unsettled(f"{measured.name} must be {bound}, but there was nothing to measure")
    bound = _bound(rule, measured.unit)
    excess = measured.value - rule.limit if rule.upper else rule.limit - measured.value
    if excess > 0:
        reason = f"{measured}, but the policy allows {bound}"
        broken = Judgement(verdict=Verdict.FAIL, reason=reason, excess=excess)
        excused = not rule.upper and rule.measure in _OF_THE_ATTACKER and evidence.failed
        ids = ", ".join(f.id for f in evidence.failed)
        return _unsettled(f"{reason}; the attack itself failed ({ids})") if excused else broken
    doubt = _doubt(rule, measured, evidence)
    if doubt is not None:
        return _unsettled(f"{measured} keeps to {bound}, but {doubt}")
    return Judgement(verdict=Verdict.PASS, reason=f"{measured} keeps to {bound}")


def _doubt(rule: Rule, measured: Measurement, evidence: Evidence) -> str | None:
    """Return why a value that keeps to the limit proves nothing, or None if it does."""
    # what is measured without the attack does not suffer from the attack's failure
    clean = "clean" in rule.measure or rule.measure in _BEFORE_THE_ATTACK
    grave = [f.id for f in evidence.failed if not clean or f.id in _OF_THE_MODEL]
    if grave:
        return f"{'the model' if clean else 'the attack'} itself failed ({', '.join(grave)})"
    # a fact about the recipe where figures are read, but no proof that success stays low
    unlearned = any(f.id == NOT_LEARNED for f in evidence.flags)
    if unlearned and rule.upper and rule.measure in _OF_THE_ATTACKER:
        return (
            f"the undefended model had not learned the poison ({NOT_LEARNED}), so that little "
            "success says nothing of model or defense; more epochs or more poison would tell"
        )
    end = measured.high if rule.upper else measured.low
    if end is None:
        return "there are too few samples for an interval"
    beyond = end > rule.limit if rule.upper else end < rule.limit
    return f"the interval does not; {_advice(measured, rule)}" if beyond else None


def overall(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Return the worst verdict; None if nothing was judged."""
    found = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in found:
            return verdict
    return None


def exit_code(verdict: Verdict | None, trials: Sequence[TrialRecord]) -> ExitCode:
    """Return what the command line ends with."""
    if verdict is Verdict.FAIL:
        return ExitCode.VIOLATED
    if verdict is Verdict.INCONCLUSIVE or any(t.status != "finished" for t in trials):
        return ExitCode.INCOMPLETE
    return ExitCode.MET


def finding(rule: Rule, trial: TrialRecord, judgement: Judgement) -> Finding:
    """Return the finding of a rule that a trial breaks."""
    gate = trial.settings.get("training") or {}
    chip = trial.settings.get("hardware") or {}
    attack = ", then ".join(a["name"] for _, a in chain(trial.settings)) or "no attack"
    behind = f" against {gate['defense']['name']}" if gate.get("defense") else ""
    if chip:
        behind += f" on {chip['format']['name']}"
    if chip.get("defense"):
        known = f" ({chip['attacker']} attacker)" if chip.get("attacker") else ""
        behind += f" with {chip['defense']['name']}{known}"
    defense = trial.settings.get("defense")
    if defense:
        position = trial.settings.get("attacker")
        behind += f" behind {defense['name']}" + (f" (attacker {position})" if position else "")
    relation = "above" if rule.upper else "below"
    unit = "" if trial.evidence is None else trial.evidence[rule.measure].unit
    return Finding(
        trial=trial.number,
        title=f"{attack}{behind}: {rule.measure} {relation} {_limit(rule, unit)}",
        message=judgement.reason,
        rule=rule.written,
    )


def more_samples(measured: Measurement, limit: float, *, upper: bool) -> int | None:
    """Return how many more samples would settle it if the value holds; None if none would."""
    if measured.value is None or measured.value == limit:
        return None
    n = measured.n
    if measured.method != "wilson":
        end = measured.high if upper else measured.low
        if end is None or not math.isfinite(end) or not math.isfinite(measured.value):
            return None
        # the half-width of such an interval shrinks with the square root of n
        ratio = (end - measured.value) / (limit - measured.value)
        return max(1, math.ceil(n * (ratio * ratio - 1)))

    def settled(count: int) -> bool:
        low, high = wilson(round(measured.value * count), count)  # type: ignore[operator]  # checked above
        return high <= limit if upper else low >= limit

    top = n
    while not settled(top):
        if top > _MOST_SAMPLES:
            return None
        top *= 2
    bottom = top // 2
    while top - bottom > 1:
        middle = (bottom + top) // 2
        bottom, top = (bottom, middle) if settled(middle) else (middle, top)
    return max(1, top - n)


def _advice(measured: Measurement, rule: Rule) -> str:
    if measured.name in ONCE_A_TRIAL:
        return "a trial says it once, whatever its samples; the report has it over the seeds"
    more = more_samples(measured, rule.limit, upper=rule.upper)
    if more is None:
        return "no number of samples would settle it, the value is too close to the limit"
    return f"about {more} more samples would settle it if the value holds"


def _unsettled(reason: str) -> Judgement:
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason)


def _bound(rule: Rule, unit: str) -> str:
    return f"{'at most' if rule.upper else 'at least'} {_limit(rule, unit)}"


def _limit(rule: Rule, unit: str) -> str:
    """Return the limit as the measurement is written: rates in percent."""
    return f"{100 * rule.limit:g} %" if unit == "1" else f"{rule.limit:g} {unit}".strip()
