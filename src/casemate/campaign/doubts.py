"""Why evidence that breaks no rule may still not suffice for a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.evidence import Verdict
from casemate.stats import Z99, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.campaign.record import TrialRecord

__all__ = ["doubts"]


def doubts(
    trials: Sequence[TrialRecord], models: Sequence[dict[str, Any]], verdict: Verdict | None
) -> tuple[str, ...]:
    """Return one sentence a doubt.

    Args:
        trials: Of the campaign, judged.
        models: Entries of the models under test.
        verdict: What the policy makes of the trials; None without a policy.
    """
    found = [sentence for model in models if (sentence := _accuracy(model)) is not None]
    judged = [t for t in trials if t.verdict is not None]
    if verdict is Verdict.PASS and all(t.control for t in judged):
        found.append(
            "the policy speaks of controls such as noise only, so no attacker was judged; add a "
            "rule for an attack"
        )
    return tuple(found)


def _accuracy(model: dict[str, Any]) -> str | None:
    """Return the doubt about a model that is much worse than its owner declares."""
    declared, measured = model.get("declared accuracy"), model.get("accuracy") or {}
    value, n = measured.get("value"), measured.get("n")
    if declared is None or value is None or not n:
        return None
    low, high = wilson(round(value * n), n, z=Z99)
    if declared <= high:
        return None
    return (
        f"{model.get('name', 'the model')} is declared {100 * declared:.1f} % accurate, but "
        f"{100 * value:.1f} % of {n} test samples are right (99 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %), so that it may be wired up wrongly; run casemate check"
    )
