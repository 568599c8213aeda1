"""Which measures a trial can have, so that a rule on one that no trial has is told before it runs.

A rule whose measure never comes would be inconclusive after hours, whatever the models do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.campaign.sections import Training
from casemate.evidence import AT_HARDWARE, AT_INFERENCE, FALSE_FLAG, FLAGGED, MEASURES, NAMED
from casemate.threats import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.campaign.document import Problems
    from casemate.campaign.rules import Rule
    from casemate.campaign.sections import Hardware
    from casemate.campaign.trials import Trial

__all__ = ["measurable", "measures_of", "needs"]

_TOP = 5
_BACKDOOR, _WEIGHTS = "backdoor-data", "backdoor-weights"
_CHOSEN = (
    "attack success rate",
    "accuracy under attack",
    "bits flipped",
    "bits flipped until the goal",
)
"""What an attack measures that chooses bits to flip."""
_NOTICED = ("faults detected", "faults repaired")
"""What is measured of a defense that notices faults, unless an attack says less."""
_DISTANCES = ("distance linf", "distance l2", "ssim")
_TOWARDS = ("confidence in target class, clean", "confidence in target class, attacked")
_TOP_5 = ("clean top-5 accuracy", "top-5 accuracy under attack")
_REMOVAL = ("precision of removal", "recall of removal", "area under the curve")
_JUDGED = (FLAGGED, NAMED, FALSE_FLAG)
_ALWAYS = ("clean accuracy", "confidence in true class, clean")
_TRIGGERED = ("target answered without the trigger", *(m for m in MEASURES if "triggers" in m))
_EXPOSED = (
    "accuracy without the attack",
    *(m for m in MEASURES if " drop" in m and m not in AT_HARDWARE),
    *(m for m in MEASURES if " by " in m and m not in _TRIGGERED),
)
"""What every trial that ends with the trained model measures."""

_JUDGE = "a defense under training that looks for a backdoor, such as neural-cleanse, and"
_OWN = {
    "attack success rate": "an attack",
    "attack success rate without the attack": "an attack under training that leads to a class",
    "poisoned samples learned": "an attack under training",
    "seconds of the defense": "a defense under training",
    "certified poisons": "a defense under training that makes a committee, such as "
    "partition-aggregation",
    "epsilon": "private-training as the defense under training",
    "recall of removal": "an attack under training, and a defense that removes samples",
    "area under the curve": "an attack under training, and a defense that ranks samples",
    FLAGGED: f"{_JUDGE} an attack with a trigger",
    NAMED: f"{_JUDGE} an attack with a trigger",
    FALSE_FLAG: f"{_JUDGE} no attack with a trigger",
}


_AT_HARDWARE = {
    "accuracy before deployment": "hardware",
    "bits flipped": "an attack under hardware that flips bits, such as bfa",
    "bits flipped until the goal": "an attack under hardware with a goal, such as bfa",
    **dict.fromkeys(
        ("mean corruption", "mean accuracy drop", "critical faults"),
        "random-faults or random-upsets as the attack under hardware",
    ),
    **dict.fromkeys(
        _NOTICED,
        "an attack under hardware, and a defense there that guards memory",
    ),
    "false alarms of the defense": "product-checksums as the defense under hardware",
    **dict.fromkeys(
        ("storage of the defense", "operations of the defense"), "a defense under hardware"
    ),
}


def needs(measure: str) -> str:
    """Return what a trial has to have for a measure, in words: "a monitor"."""
    if measure in _AT_HARDWARE:
        return _AT_HARDWARE[measure]
    words = _OWN.get(measure) or _of_group(measure)
    ends = "" if measure in AT_INFERENCE else ", in a trial without an attack at inference"
    return f"{words}{ends}"


def _of_group(measure: str) -> str:
    for group, words in (
        (_TOP_5, "data of more than five classes"),
        (_TOWARDS, "a goal that names the class to reach, or a backdoor under training"),
        (_DISTANCES, "an attack at inference, or one under training with a trigger"),
        (_REMOVAL, "a defense under training that removes samples, such as near-duplicates"),
        (_TRIGGERED, "an attack under training with a trigger, such as badnets"),
        (_EXPOSED, "training"),
    ):
        if measure in group:
            return words
    return "a monitor" if measure.startswith("monitor ") else "an attack at inference"


def measures_of(trial: Trial, classes: int) -> frozenset[str]:
    """Return the measures that a trial may have; some may turn out to be without value.

    Args:
        trial: The trial.
        classes: Number of classes of its data.
    """
    found: set[str] = set(_ALWAYS)
    if trial.hardware is not None:
        found = {*_ALWAYS[:1], *_of_hardware(trial.hardware)}
    elif trial.attack is not None:
        found |= set(AT_INFERENCE)
        if trial.goal.to is None:
            found -= set(_TOWARDS)
    else:
        found |= _of_training(trial)
    if classes <= _TOP:
        found -= set(_TOP_5)
    return frozenset(found)


def _of_hardware(hardware: Hardware) -> set[str]:
    """Return what a trial that ends with the deployed model measures besides."""
    found = {"accuracy before deployment", "clean accuracy drop"}
    attack = None if hardware.attack is None else hardware.attack.value
    if hardware.defense is not None:
        found |= {"storage of the defense", "operations of the defense"}
        notices = hasattr(hardware.defense.value, "guarded") or hasattr(
            hardware.defense.value, "alarms"
        )
        if notices and attack is not None:
            found |= set(getattr(attack, "noticed", _NOTICED))
        if hasattr(hardware.defense.value, "alarms"):
            found.add("false alarms of the defense")
    if attack is not None:
        found |= set(getattr(attack, "measures", _CHOSEN))
        if not getattr(attack, "has_goal", True):
            found.discard("bits flipped until the goal")
        if attack.threat.threat == _WEIGHTS:
            found.add("attack success rate without the attack")
    return found


def _of_training(trial: Trial) -> set[str]:
    """Return what a trial that ends with the trained model measures besides."""
    gate = trial.training or Training()
    found = {*_EXPOSED, "clean top-5 accuracy"}
    triggered = False
    if gate.attack is not None:
        threat = gate.attack.value.threat
        triggered = threat.threat == _BACKDOOR
        found |= {"attack success rate", "poisoned samples learned"}
        if Goal.INTEGRITY_TARGETED in threat.goals:
            found |= {"attack success rate without the attack", _TOWARDS[1]}
    if triggered:
        found |= {*_TRIGGERED, *_DISTANCES}
    if gate.defense is not None:
        found.add("seconds of the defense")
        found |= _of_defense(gate.defense.value, attacked=gate.attack is not None)
    found -= {FALSE_FLAG} if triggered else {FLAGGED, NAMED}
    if trial.monitor is not None:
        found |= {m for m in MEASURES if m.startswith("monitor ")}
    return found


def _of_defense(defense: object, *, attacked: bool) -> set[str]:
    """Return what a defense measures; one that does not say may measure whatever a defense can."""
    known: tuple[str, ...] = (*_REMOVAL, *_JUDGED, "epsilon", "certified poisons")
    if getattr(defense, "phase", None) == "before":
        known = _REMOVAL
    said: Sequence[str] = getattr(defense, "measures", known)
    # of what was not touched nothing can be recalled or ranked
    return set(said) - (set() if attacked else set(_REMOVAL[1:]))


def measurable(
    rules: Sequence[Rule],
    named: Mapping[int, Sequence[int]],
    measures: Sequence[frozenset[str]],
    problems: Problems,
) -> dict[int, list[int]]:
    """Return the trials that each rule speaks of, by its number: those that can measure it.

    A rule on what none can measure would pass in silence: it goes to `problems`.

    Args:
        rules: The policy.
        named: Positions of the trials that each rule's `where` names, by its number.
        measures: Of each trial, as `measures_of` returns them.
        problems: Told what is wrong.
    """
    found = {}
    for rule in rules:
        trials = named[rule.number]
        found[rule.number] = [i for i in trials if rule.measure in measures[i]]
        if trials and not found[rule.number]:
            whose = "that it speaks of " if rule.where else ""
            problems.add(
                ("policy", rule.number, "measure"),
                f'no trial {whose}can measure "{rule.measure}", so the rule checks nothing: that '
                f"takes {needs(rule.measure)}; add it, or remove the rule",
            )
    return found
