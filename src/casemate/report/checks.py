"""The health of the evaluation: what each flag means, and which checks found nothing.

An attack that fails for a reason of its own makes any model look robust. The checks are run where
the evidence is made; this is what the report says of them. docs/health.md has the long version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.evidence import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.report.facts import Facts

__all__ = ["CHECKS", "Check", "Flagged", "flagged", "silent"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One health check.

    Attributes:
        id: Id of the flag that it raises.
        title: What it looks for, in a few words.
        meaning: What it means for the figures when it strikes.
        remedy: What to do then.
        scope: On which trials it is made.
    """

    id: str
    title: str
    meaning: str
    remedy: str
    scope: str = "every trial"


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """One kind of flag and where it was raised.

    Attributes:
        id: Its id; untrusted, since a plugin may raise flags of its own.
        severity: The gravest severity with which it was raised.
        check: What is known of it; None for a flag of a plugin's own.
        trials: The trials with the sentence of each, failures first.
    """

    id: str
    severity: Severity
    check: Check | None
    trials: tuple[tuple[Facts, Severity, str], ...]


_GRADIENTS = "trials whose attack uses gradients"
_TRAINING = "trials that end with the trained model"

CHECKS: dict[str, Check] = {
    c.id: c
    for c in (
        Check(
            id="nothing-attacked",
            title="Nothing to attack",
            meaning="The clean system got no sample right that the attacker wants, so that no "
            "attack counts.",
            remedy="Check labels, class order and preprocessing with casemate check.",
        ),
        Check(
            id="not-finite",
            title="NaN or infinite scores",
            meaning="The model broke down on some inputs; what it would have answered is unknown.",
            remedy="Mend the model: look for overflow, division by zero or logarithms of zero.",
        ),
        Check(
            id="random-outputs",
            title="Random answers",
            meaning="The same input gets different answers, but success was judged on one answer.",
            remedy="Average the attack over the randomness, or judge success on several draws.",
        ),
        Check(
            id="lost-success",
            title="Success that did not last",
            meaning="Samples fooled the model during the attack but not when judged again.",
            remedy="Run casemate check: the answers depend on the batch, on rounding or on chance.",
        ),
        Check(
            id="unfinished",
            title="Unfinished optimization",
            meaning="The attack was still gaining when its steps ran out: more would fool more.",
            remedy="Raise the number of steps until success no longer grows.",
        ),
        Check(
            id="out-of-reach",
            title="Steps that do not span the budget",
            meaning="All steps together are shorter than epsilon: the attack could not use it.",
            remedy="Raise steps or step_size until their product is at least epsilon.",
            scope="attacks that take steps within an epsilon, and were withstood",
        ),
        Check(
            id="no-budget",
            title="A budget of nothing",
            meaning="Epsilon is zero or below one step of the data, so no stored input changes.",
            remedy="Raise epsilon to at least one step, such as 1/255 for 8-bit images.",
            scope="attacks within an epsilon that were withstood",
        ),
        Check(
            id="budget-exhausted",
            title="Attacker's budget exhausted",
            meaning="Queries ran out before the attack was done; the figures hold for that budget.",
            remedy="Raise the budget, or read the figures as those of a poorer attacker.",
        ),
        Check(
            id="zero-gradients",
            title="Gradients of zero",
            meaning="The model hides its gradients, so an attack along them cannot find its way.",
            remedy="Take away the part that blocks gradients and attack again; try loss: margin.",
            scope=_GRADIENTS,
        ),
        Check(
            id="probabilities",
            title="Probabilities where logits were declared",
            meaning="A hidden softmax flattens gradients where the model is sure of itself.",
            remedy="Remove the final softmax, or declare the outputs as probabilities.",
            scope=_GRADIENTS,
        ),
        Check(
            id="unconstrained-failure",
            title="Failure without any bound",
            meaning="The attack fails even if it may turn any input into any other: it is broken.",
            remedy="Try another loss or more steps, and look for what misleads the gradient.",
            scope="iterated gradient attacks that know the whole system and were withstood",
        ),
        Check(
            id="weak-reference",
            title="A reference that learned nothing",
            meaning="The model trained without the attack is not clearly better than guessing, so "
            "no attack could do harm.",
            remedy="Train longer or mend the recipe until the clean model reads its data.",
            scope=_TRAINING,
        ),
        Check(
            id="goal-before-attack",
            title="A goal that is reached before any flip",
            meaning="Nothing was attacked, so the figures say nothing of an attack.",
            remedy="Set the attack's goal below what the model does without flips.",
            scope="trials that search for bits of a deployed model",
        ),
        Check(
            id="search-stuck",
            title="A search that found no bit to flip",
            meaning="Nothing was attacked, so full accuracy says nothing of the model.",
            remedy="Allow more candidates, inputs, layers or pages.",
            scope="trials that search for bits of a deployed model",
        ),
        Check(
            id="trigger-without-effect",
            title="A trigger that changes nothing",
            meaning="No input is another with the trigger once it is stored, so nobody attacked at "
            "test time.",
            remedy="Make the trigger stronger than one step of the values that inputs hold.",
            scope=_TRAINING,
        ),
        Check(
            id="collapsed-victim",
            title="A victim that answers the target anyway",
            meaning="Most of the success is there without the trigger: the model is broken, and no "
            "backdoor.",
            remedy="Read success beside clean accuracy; train longer, or choose another defense.",
            scope=_TRAINING,
        ),
        Check(
            id="poison-not-learned",
            title="Poison that was not learned",
            meaning="The model does not give its poisoned training samples their labels.",
            remedy="Train longer or poison more before calling the model robust.",
            scope=_TRAINING,
        ),
    )
}
"""The checks that are made where evidence comes from, by id."""


def flagged(facts: Sequence[Facts]) -> tuple[Flagged, ...]:
    """Return every kind of flag that was raised, failures first, then by how many trials."""
    found: dict[str, list[tuple[Facts, Severity, str]]] = {}
    for f in facts:
        for flag in f.trial.evidence.flags if f.trial.evidence else ():
            found.setdefault(flag.id, []).append((f, flag.severity, flag.message))
    kinds = [
        Flagged(
            id=id_,
            severity=Severity.FAILURE
            if any(s is Severity.FAILURE for _, s, _ in trials)
            else Severity.WARNING,
            check=CHECKS.get(id_),
            trials=tuple(sorted(trials, key=lambda t: t[1] is not Severity.FAILURE)),
        )
        for id_, trials in found.items()
    ]
    return tuple(sorted(kinds, key=lambda k: (k.severity is not Severity.FAILURE, -len(k.trials))))


def silent(raised: Sequence[Flagged]) -> tuple[Check, ...]:
    """Return the known checks that raised nothing."""
    ids = {kind.id for kind in raised}
    return tuple(c for c in CHECKS.values() if c.id not in ids)
