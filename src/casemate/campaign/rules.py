"""The rules of a policy as written, and which trials each one speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from casemate.campaign.document import Document, Problems
from casemate.campaign.numbers import Number, parse_number
from casemate.campaign.refusals import sentences
from casemate.campaign.words import GATES
from casemate.errors import did_you_mean
from casemate.evidence import MEASURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casemate.campaign.record import TrialRecord

__all__ = ["Rule", "RuleFile", "matched", "read_frame_rules", "read_rules", "speaking"]

_SETTINGS = (
    "data",
    "model",
    "training",
    "hardware",
    "attack",
    "goal",
    "defense",
    "monitor",
    "attacker",
    "samples",
    "early_stop",
    "round",
    "queries",
    "seed",
)
_SHOWN = 6  # values that a message lists
_SHARES = ("1", "probability")
_TAGS = ("name", "source", "architecture", "factory", "onnx", "sklearn", "function")


class RuleFile(BaseModel):
    """One rule: a bound on a measurement, for the trials that can make it and `where` names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    measure: str = Field(
        min_length=1, description='Name of the measurement: "attack success rate".'
    )
    at_most: Number | None = Field(default=None, description="The value must not exceed this.")
    at_least: Number | None = Field(default=None, description="The value must reach this.")
    where: dict[str, Any] = Field(
        default={},
        description="Settings that a trial must have: {attack: pgd, attack.epsilon: 8/255}, "
        "{training.attack: badnets}.",
    )

    @model_validator(mode="after")
    def _one_bound(self) -> RuleFile:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("needs either at_most or at_least")
        return self


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A bound on a measurement.

    Attributes:
        number: Position in the policy, from 0.
        measure: Name of the measurement.
        limit: The bound.
        upper: Whether the value may be at most the limit; else at least.
        where: Settings that a trial must have for the rule to speak of it.
        written: The rule as the user wrote it.
    """

    number: int
    measure: str
    limit: float
    upper: bool
    where: dict[str, Any]
    written: dict[str, Any]

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Whether `where` names a trial with these settings."""
        return all(_holds(settings, key, wanted) for key, wanted in self.where.items())


def speaking(rules: Sequence[Rule], trial: TrialRecord) -> list[Rule]:
    """Return the rules that speak of a trial: `where` names it, and it can measure the measure."""
    if trial.rules is None:
        return [rule for rule in rules if rule.matches(trial.settings)]
    return [rule for rule in rules if rule.number in trial.rules]


def read_rules(sections: Sequence[dict[str, Any]], problems: Problems) -> tuple[Rule, ...]:
    """Return the rules of a policy; what is wrong with them goes to `problems`."""
    rules = []
    for i, section in enumerate(sections):
        path = ("policy", i)
        try:
            rule = RuleFile.model_validate(section)
        except ValidationError as error:
            for below, sentence in sentences(error, RuleFile):
                problems.add(
                    (*path, *below), sentence if below else "needs either at_most or at_least"
                )
            continue
        unknown = [k for k in rule.where if str(k).partition(".")[0] not in _SETTINGS]
        for key in unknown:
            hint = did_you_mean(str(key).partition(".")[0], _SETTINGS)
            problems.add((*path, "where", key), f'a trial has no setting "{key}".{hint}')
        if unknown:
            continue
        limit = rule.at_least if rule.at_most is None else rule.at_most
        assert limit is not None  # noqa: S101 - the model checked that there is one
        wrong = _unfit(rule.measure, limit)
        if wrong is not None:
            key, sentence = wrong
            bound = "at_least" if rule.at_most is None else "at_most"
            problems.add((*path, key or bound), sentence)
            continue
        rules.append(
            Rule(
                number=i,
                measure=rule.measure,
                limit=limit,
                upper=rule.at_most is not None,
                where=rule.where,
                written=dict(section),
            )
        )
    return tuple(rules)


def _unfit(measure: str, limit: float) -> tuple[str, str] | None:
    """Return the key and why a rule could never mean what it says; key "" is the bound."""
    unit = MEASURES.get(measure)
    if unit is None:
        return "measure", f'no trial measures "{measure}".{did_you_mean(measure, MEASURES)}'
    if unit in _SHARES and not 0 <= limit <= 1:
        percent = f"; write {limit / 100:g} for {limit:g} %" if 1 < limit <= 100 else ""  # noqa: PLR2004
        return "", f"{measure} lies between 0 and 1, but the limit is {limit:g}{percent}"
    return None


def read_frame_rules(sections: Sequence[dict[str, Any]]) -> tuple[Rule, ...]:
    """Return the rules that a store kept.

    Raises:
        UsageError: If they are not well formed.
    """
    problems = Problems(Document(file="the stored policy", data={}, lines={}, origins={}))
    rules = read_rules(sections, problems)
    problems.check()
    return rules


def matched(
    rules: Sequence[Rule], trials: Sequence[Mapping[str, Any]], problems: Problems
) -> dict[int, list[int]]:
    """Return the positions of the trials that the rules' `where` names, by the rule's number.

    A rule that names no trial is a slip that would pass in silence: it goes to `problems`.
    """
    found = {}
    for rule in rules:
        found[rule.number] = [i for i, settings in enumerate(trials) if rule.matches(settings)]
        if trials and not found[rule.number]:
            problems.add(
                ("policy", rule.number, "where") if rule.where else ("policy", rule.number),
                f"no trial has these settings, so the rule checks nothing: {_reason(rule, trials)}",
            )
    return found


def _reason(rule: Rule, trials: Sequence[Mapping[str, Any]]) -> str:
    """Return which setting of a rule no trial has, what the trials have instead, and the remedy."""
    for key, wanted in rule.where.items():
        if any(_holds(settings, key, wanted) for settings in trials):
            continue
        for stage in GATES:
            gate = f"{stage}.{key}"
            if any(_holds(settings, gate, wanted) for settings in trials):
                return (
                    f"{key} is what stands at inference, and this stands at {stage}; write {gate}"
                )
        values = dict.fromkeys(
            _plainly(value) for t in trials if (value := _setting(t, key)) is not None
        )
        if not values:
            return f'no trial has a "{key}"; mend or remove it'
        shown = ", ".join(list(values)[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
        return f"{key} is {shown}, never {wanted}; mend or remove it"
    return "no single trial has all of them; mend or remove it"


def _setting(settings: Mapping[str, Any], key: str) -> Any:
    found: Any = settings
    for part in str(key).split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _plainly(value: Any) -> str:
    if isinstance(value, dict):
        return str(next((value[t] for t in _TAGS if value.get(t) is not None), value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _holds(settings: Mapping[str, Any], key: str, wanted: Any) -> bool:
    setting: Any = settings
    for part in str(key).split("."):
        if not isinstance(setting, dict) or part not in setting:
            return False
        setting = setting[part]
    return _equal(setting, wanted)


def _equal(setting: Any, wanted: Any) -> bool:
    """Compare a setting with what a rule wants: any of a list, a plugin by its name."""
    if isinstance(wanted, list) and not isinstance(setting, list):
        return any(_equal(setting, w) for w in wanted)
    if isinstance(setting, dict):
        if isinstance(wanted, dict):
            return all(_holds(setting, k, w) for k, w in wanted.items())
        name = next((setting[t] for t in _TAGS if setting.get(t) is not None), None)
        return wanted is not None and _equal(name, wanted)
    if isinstance(setting, str) and isinstance(wanted, str):
        return setting.casefold() == wanted.casefold()
    return bool(setting == _number_like(wanted, setting))


def _number_like(wanted: Any, setting: Any) -> Any:
    """Return a wanted "8/255" as a number where the setting is one."""
    if isinstance(setting, bool) or not isinstance(setting, (int, float)):
        return wanted
    try:
        return parse_number(wanted)
    except ValueError:
        return wanted
