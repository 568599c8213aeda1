"""What a trial asked and what became of it, read once from its record for all of the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from casemate.campaign.words import amount, chain, leaves, meant, short_name
from casemate.evidence import Verdict
from casemate.report import formats
from casemate.report.threat_models import ThreatFacts, threat_facts
from casemate.threats import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.campaign.record import CampaignRecord, TrialRecord
    from casemate.stats import Measurement

__all__ = [
    "COLLAPSED",
    "NORMS",
    "SUCCESS",
    "Facts",
    "State",
    "facts_of",
    "parameters_in_words",
    "set_apart",
    "share_key",
    "varying",
]

SUCCESS = "attack success rate"
COLLAPSED = "collapsed-victim"
"""Flag of a victim that answers the attacker's label without the trigger as well."""
_EPSILON = ("epsilon", "eps")
_POISON = ("amount", "intensity", "source", "target")
_FLIPS = ("budget", "rate", "source", "target")
# n has a column of its own, and a class has as many samples as it has
_SHOWN = frozenset({"attack", "goal", "defense", "attacker", "model_digest", "samples"})
_NOBODY = "no attack"
_POSITIONS = {
    "after": "attacker after it",
    "before": "attacker before it, unaware of it",
    "aware": "attacker before it, aware of it",
}


class State(str, Enum):
    """What a reader has to know of a trial before any figure."""

    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    PASSED = "passed"
    MEASURED = "measured"
    NOT_RUN = "not run"

    @property
    def slug(self) -> str:
        """The state as a CSS class and symbol name."""
        return self.value.replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One trial as the report speaks of it.

    Attributes:
        trial: The record itself.
        state: Verdict, or status where there is none.
        threat: Threat model of the attack: of the last one in the model's life.
        attack: Name of the attack; of several, all of them in the order of the gates.
        parameters: Parameters of the last one, without name and epsilon; of one on training data
            without name, amount, intensity and classes, of one on the deployed model without name,
            budget, rate and classes.
        amount: How much is poisoned, or how much of memory is struck, in words; None for an attack
            at inference.
        epsilon: Its budget; None for an attack that searches the smallest perturbation.
        norm: "linf" or "l2": what epsilon, or the searched distance, is measured in; None where
            neither the settings nor the samples tell.
        source: Class that the samples come from, or None for all.
        goal: Class that the attacker wants, or None for any wrong one.
        defense: The defenses, at training, at the deployed model and in front of it, in words, or
            None.
        attacker: Where the attacker stands relative to the defense, in words; None without one.
        classes: Class names by label.
    """

    trial: TrialRecord
    state: State
    threat: ThreatFacts
    attack: str
    parameters: dict[str, Any]
    amount: str | None
    epsilon: float | None
    norm: str | None
    source: str | None
    goal: str | None
    defense: str | None
    attacker: str | None
    classes: tuple[str, ...]

    @property
    def number(self) -> int:
        """Position in the campaign."""
        return self.trial.number

    @property
    def targeted(self) -> bool:
        """Whether the attacker wants one class in particular."""
        return self.goal is not None

    @property
    def at_training(self) -> bool:
        """Whether the trial ends with the trained model, and nobody attacks at inference."""
        settings = self.trial.settings
        return (
            settings.get("attack") is None
            and bool(settings.get("training"))
            and not self.at_hardware
        )

    @property
    def hardware(self) -> dict[str, Any]:
        """What stands at the hardware gate, as settings have it; empty without one."""
        return self.trial.settings.get("hardware") or {}

    @property
    def at_hardware(self) -> bool:
        """Whether the trial ends with the deployed model."""
        return bool(self.hardware)

    @property
    def training_defense(self) -> str | None:
        """The defense at training in words: "fine-tuning epochs 2", or None."""
        return _defense((self.trial.settings.get("training") or {}).get("defense"))

    @property
    def monitor(self) -> str | None:
        """The monitor of single inputs in words: "strip overlays 100", or None."""
        return _defense(self.trial.settings.get("monitor"))

    @property
    def aim(self) -> str:
        """What the attacker wants, in NIST's words."""
        if self.targeted:
            return Goal.INTEGRITY_TARGETED.value
        model = self.threat.model
        early = self.at_training or self.at_hardware
        if early and model is not None and Goal.AVAILABILITY in model.goals:
            return Goal.AVAILABILITY.value
        return Goal.INTEGRITY_UNTARGETED.value

    @property
    def scenario(self) -> str:
        """The goal in words: "stop → 60 km/h", "any other class"."""
        if self.goal is None:
            return "any wrong class" if self.source is None else f"{self.source} → any wrong class"
        return f"{self.source or 'any class'} → {self.goal}"

    @property
    def budget(self) -> str:
        """Budget in words: "8/255 L∞", "smallest L2"."""
        if self.amount is not None:
            return self.amount
        norm = NORMS.get(self.norm or "", "")
        if self.epsilon is None:
            return f"smallest {norm}".strip() if self.threat.minimizes else formats.NOTHING
        return f"{formats.budget(self.epsilon)} {norm}".strip()

    @property
    def unbounded(self) -> bool:
        """Whether the attack goes as far as it must, so that nearly any model gives in."""
        return self.epsilon is None and self.threat.minimizes

    @property
    def details(self) -> str:
        """The other parameters in words: "steps 10, restarts 2"."""
        return parameters_in_words({k: v for k, v in self.parameters.items() if k != "norm"})

    @property
    def against(self) -> str:
        """Defense and attacker in words: "median size 3, filter-aware"."""
        if self.defense is None:
            return "no defense"
        return f"{self.defense}; {self.attacker}" if self.attacker else self.defense

    def measurement(self, name: str) -> Measurement | None:
        """Return the measurement of that name, or None where it was not made."""
        if self.trial.evidence is None:
            return None
        return next((m for m in self.trial.evidence.measurements if m.name == name), None)

    @property
    def success(self) -> Measurement | None:
        """The attack success rate, if it was measured on at least one sample."""
        found = self.measurement(SUCCESS)
        return found if found is not None and found.value is not None else None

    @property
    def collapse(self) -> str:
        """What makes success no backdoor where the victim collapsed, as a sentence; else empty."""
        flags = self.trial.evidence.flags if self.trial.evidence is not None else ()
        return next((flag.message for flag in flags if flag.id == COLLAPSED), "")

    def class_name(self, label: int) -> str:
        """Return the name of a label, "class 7" where the record does not name it."""
        if 0 <= label < len(self.classes):
            return str(self.classes[label])
        return f"class {label}"


NORMS = {"linf": "L∞", "l2": "L2"}
"""How norms are written."""


def facts_of(record: CampaignRecord) -> tuple[Facts, ...]:
    """Return what the report says of each trial, in the record's order."""
    models = {m.get("digest"): m for m in record.models}
    first = record.models[0] if record.models else {}
    return tuple(
        _facts(trial, models.get(trial.settings.get("model_digest"), first))
        for trial in record.trials
    )


def share_key(facts: Facts, *without: str) -> str:
    """Return what two trials share that differ only in the named settings.

    Args:
        facts: One of the trials.
        without: Names of settings; "training.defense" is part of one.
    """
    return json.dumps(_without(facts.trial.settings, without), sort_keys=True, default=str)


def _without(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    kept = {}
    for key, value in settings.items():
        if key in names:
            continue
        below = [n.partition(".")[2] for n in names if n.startswith(f"{key}.")]
        kept[key] = _without(value, below) if below and isinstance(value, dict) else value
    return kept


def varying(facts: Sequence[Facts], *without: str) -> dict[int, str]:
    """Return, by trial number, the other settings in which the trials of a campaign differ.

    These are those that no column of a table shows, such as the seed or a model's
    recipe. Empty for all trials where they agree.

    Args:
        facts: The trials.
        without: Names of settings that are shown elsewhere, as `share_key` takes them.
    """
    rows = {
        f.number: leaves(
            _without(
                meant(f.trial.settings),
                (
                    *_SHOWN,
                    *without,
                    "training.defense",
                    "hardware.defense",
                    "hardware.attack",
                    "hardware.attacker",
                    *(("training.attack",) if f.at_training else ()),
                ),
            )
        )
        for f in facts
    }
    names = dict.fromkeys(name for row in rows.values() for name in row)
    differing = [n for n in names if len({repr(row.get(n)) for row in rows.values()}) > 1]
    short = {n: short_name(n, differing) for n in differing}
    return {
        number: parameters_in_words({short[n]: row.get(n) for n in differing})
        for number, row in rows.items()
    }


def set_apart(facts: Facts, others: Sequence[Facts]) -> str:
    """Return the parameters of a trial's attack in which it differs from others, in words."""
    return parameters_in_words(
        {
            name: value
            for name, value in facts.parameters.items()
            if any(o.parameters.get(name) != value for o in others)
        }
    )


def parameters_in_words(parameters: Mapping[str, Any]) -> str:
    """Return parameters as "steps 10, restarts 2"; what is unset is left out."""
    return ", ".join(
        f"{name.replace('_', ' ').replace('.', ' ')} {formats.value(value)}"
        for name, value in parameters.items()
        if value is not None
    )


def _facts(trial: TrialRecord, model: Mapping[str, Any]) -> Facts:
    settings = trial.settings
    classes = tuple(str(c) for c in model.get("classes") or ())
    gate, chip = settings.get("training") or {}, settings.get("hardware") or {}
    attacks = [_named(a) for _, a in chain(settings)]
    attack = attacks[-1] if attacks else {"name": _NOBODY}
    if chip:
        attack = _named(chip.get("attack"))
    poisons = bool(gate) and settings.get("attack") is None and not chip
    left_out = ("name", *(_FLIPS if chip else _POISON if poisons else _EPSILON))
    parameters = leaves({k: v for k, v in attack.items() if k not in left_out})
    goal = settings.get("goal") or {}
    if poisons or chip:
        goal = {"from": attack.get("source"), "to": attack.get("target")}
    standing = (gate.get("defense"), chip.get("defense"), settings.get("defense"))
    defenses = [d for d in standing if d]
    defense, attacker = settings.get("defense"), settings.get("attacker")
    if chip:
        defense, attacker = chip.get("defense"), chip.get("attacker")
    threat = threat_facts(str(attack.get("name", "")), trial.threat)
    threat = replace(threat, control=threat.control or trial.control)
    epsilon = next((_real(attack[k]) for k in _EPSILON if k in attack), threat.epsilon)
    return Facts(
        trial=trial,
        state=_state(trial),
        threat=threat,
        attack=", then ".join(str(a.get("name", "unnamed")) for a in attacks) or _NOBODY,
        parameters=parameters,
        amount=_struck(attack) if chip else _amount(attack) if poisons else None,
        epsilon=None if chip else epsilon,
        norm=None if poisons or chip else _norm(trial, attack.get("norm") or threat.norm, epsilon),
        source=_class(goal.get("from"), classes) if isinstance(goal, dict) else None,
        goal=_class(goal.get("to"), classes) if isinstance(goal, dict) else _class(goal, classes),
        defense=_defense(defenses),
        attacker=_position(attacker, at_hardware=bool(chip)) if attacker and defense else None,
        classes=classes,
    )


def _position(attacker: Any, *, at_hardware: bool) -> str:
    """Return where the attacker stands, in words: at the hardware only whether he knows."""
    if at_hardware:
        return f"attacker {attacker} of it"
    return _POSITIONS.get(str(attacker), str(attacker))


def _struck(attack: Mapping[str, Any]) -> str:
    """Return how much of memory an attack on the deployed model strikes: "at most 100 flips"."""
    if attack.get("rate") is not None:
        return f"bit error rate {formats.value(attack['rate'])}"
    if attack.get("estimator") is not None:
        return "one bit"
    budget = attack.get("budget")
    return formats.NOTHING if budget is None else f"at most {formats.value(budget)} flips"


def _amount(attack: Mapping[str, Any]) -> str:
    """Return how much an attack on training data poisons: "1 %, intensity 0.5"."""
    parts = [words] if (words := amount(attack)) else []
    if attack.get("intensity") is not None:
        parts.append(f"intensity {formats.value(attack['intensity'])}")
    return ", ".join(parts) or formats.NOTHING


def _named(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {"name": str(value)} if value is not None else {"name": _NOBODY}


def _defense(value: Any) -> str | None:
    if not value:
        return None
    if isinstance(value, (list, tuple)):
        return " + ".join(text for v in value if (text := _defense(v))) or None
    named = _named(value)
    rest = parameters_in_words(leaves({k: v for k, v in named.items() if k != "name"}))
    return f"{named.get('name', 'unnamed')} {rest}".strip()


def _state(trial: TrialRecord) -> State:
    if trial.status != "finished":
        return State.FAILED if trial.status == "failed" else State.NOT_RUN
    if trial.verdict is None:
        return State.MEASURED
    return {
        Verdict.FAIL: State.VIOLATED,
        Verdict.PASS: State.PASSED,
        Verdict.INCONCLUSIVE: State.INCONCLUSIVE,
    }[trial.verdict]


def _class(value: Any, classes: Sequence[str]) -> str | None:
    if value is None or value == -1:
        return None
    if isinstance(value, (list, tuple)):
        return ", ".join(text for v in value if (text := _class(v, classes)))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    return str(value)


def _real(value: Any) -> float | None:
    """Return an epsilon given as a number or as a fraction such as "8/255"."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(Fraction(value)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _norm(trial: TrialRecord, declared: Any, epsilon: float | None) -> str | None:
    named = str(declared or "").lower()
    if named:
        return "linf" if "inf" in named else "l2" if "2" in named else named
    if epsilon is None:
        return "l2"  # the distance that every evidence carries and minimum-norm attacks search in
    if trial.evidence is None:
        return None
    # a perturbation of length epsilon in L2 is shorter in L-infinity, never the other way round
    within = epsilon * (1 + 1e-4)
    for norm in ("l2", "linf"):
        column = trial.evidence.samples.get(norm)
        if column is not None and len(column) and bool((column <= within).all()):
            return norm
    return None
