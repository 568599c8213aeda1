"""The plan: every trial with its key, whether it runs and why, and what it costs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.campaign.document import Problems  # noqa: TC001 - part of a signature that is shown
from casemate.campaign.probe import Pace, probe
from casemate.campaign.rules import matched
from casemate.campaign.spec import Spec, check_spec
from casemate.campaign.words import changed
from casemate.errors import CasemateError, UsageError
from casemate.identity import key

if TYPE_CHECKING:
    from casemate.campaign.gates import Gates
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.inference.evaluate import Cost

__all__ = ["Draft", "Plan", "Planned", "make_drafts", "make_plan"]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One trial of a plan.

    Attributes:
        trial: What was asked.
        key: Hash of everything that decides the evidence.
        identity: What the key is the hash of, as plain data.
        settings: The trial as resolved, as `TrialRecord.settings`.
        threat: Id of the threat in the taxonomy.
        n: Samples that it attacks.
        cost: The most samples that it sends through its model.
        cached: Whether the evidence is there already.
        reason: Why it runs, or that it is cached.
        seconds: Estimate; None without a probe.
    """

    trial: Trial
    key: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    threat: str
    n: int
    cost: Cost
    cached: bool
    reason: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign would do now.

    Attributes:
        spec: The specification.
        trials: All trials, in order.
        training: Estimated seconds of training that is still to be done; None without a probe.
        paces: Pace of each model by its digest, if probed.
    """

    spec: Spec
    trials: tuple[Planned, ...]
    training: float | None = None
    paces: dict[str, Pace] | None = None

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all that is still to be done, at most; None without a probe."""
        if self.training is None:
            return None
        return self.training + sum(p.seconds or 0.0 for p in self.trials if not p.cached)

    def only(self, wanted: str) -> Plan:
        """Return the plan with the trials of that number, or whose key begins so.

        Raises:
            UsageError: If there is no such trial, or several have keys that begin so.
        """
        from dataclasses import replace  # noqa: PLC0415 - only here

        if wanted.isdigit() and len(wanted) <= len(str(len(self.trials))):
            chosen = [p for p in self.trials if p.trial.number == int(wanted)]
        else:
            chosen = [p for p in self.trials if p.key.startswith(wanted.lower())]
        if not chosen:
            raise UsageError(
                f'no trial has the number or key "{wanted}"; list them with: '
                f"casemate plan {shlex.quote(self.spec.source)}"
            )
        if len({p.key for p in chosen}) > 1:
            raise UsageError(
                f'{len(chosen)} trials have keys that begin with "{wanted}"; give more of it'
            )
        return replace(self, trials=tuple(chosen))


def make_plan(
    spec: Spec | None,
    problems: Problems,
    gates: Gates,
    store: Store | None,
    *,
    estimate: bool = False,
) -> Plan:
    """Check everything that can be checked before anything runs, and plan the campaign.

    Args:
        spec: From `read_spec`.
        problems: From `read_spec`.
        gates: Loads data and the user's models.
        store: Where evidence may already lie, if there is one.
        estimate: Probe each model that runs, for estimates in seconds.

    Raises:
        UsageError: With one line for each thing that is wrong with the specification.
    """
    drafts = make_drafts(spec, problems, gates)
    spec = check_spec(spec, problems)
    done = store.finished() if store is not None else set()
    before = store.last_run(spec.name) if store is not None else {}
    paces: dict[str, Pace] = {}
    trials = []
    for draft in drafts:
        cached = draft.key in done
        pace = None
        if estimate and not cached:
            name = draft.identity["model"]
            if name not in paces:
                paces[name] = probe(draft.trial, gates, store)
            pace = paces[name]
        trials.append(
            Planned(
                trial=draft.trial,
                key=draft.key,
                identity=draft.identity,
                settings=draft.settings,
                threat=draft.trial.attack.value.threat.threat,
                n=draft.n,
                cost=draft.cost,
                cached=cached,
                reason=_reason(draft, before.get(draft.trial.number), cached=cached),
                seconds=None if pace is None else _estimate(draft.cost, pace),
            )
        )
    training = sum(p.training for p in paces.values()) if estimate else None
    return Plan(spec=spec, trials=tuple(trials), training=training, paces=paces or None)


@dataclass(frozen=True)
class Draft:
    """A trial resolved against its data and model; attributes as in `Planned`."""

    trial: Trial
    key: str
    identity: dict[str, Any]
    settings: dict[str, Any]
    n: int
    cost: Cost


def make_drafts(spec: Spec | None, problems: Problems, gates: Gates) -> list[Draft]:
    """Return all trials that are sound; what is wrong with the others goes to `problems`."""
    if spec is None:
        return []
    checker = _Checker(gates, problems)
    drafts = [draft for trial in spec.trials if (draft := checker.draft(trial))]
    if len(drafts) == len(spec.trials):
        matched(spec.rules, [d.settings for d in drafts], problems)
    return drafts


class _Checker:
    """Resolves trials against data and models; what is wrong is noted once and not tried again."""

    def __init__(self, gates: Gates, problems: Problems) -> None:
        self._gates = gates
        self._problems = problems
        self._sound: dict[tuple[str, ...], bool] = {}

    def draft(self, trial: Trial) -> Draft | None:
        """Return the trial with key and cost, or None if something is wrong with it."""
        data, model, attack = trial.data.digest, trial.model.digest, trial.attack.digest
        defense = trial.defense.digest if trial.defense else ""
        goal = repr(trial.goal)
        checks = (
            ("data", (data,), self._check_data),
            ("model", (data, model, str(trial.options.seed)), self._check_model),
            ("goal", (data, goal), self._check_goal),
            ("attack", (data, model, attack, str(trial.goal.to is None)), self._check_attack),
            ("defense", (data, defense), self._check_defense),
        )
        sound = True
        for section, name, check in checks:
            if (section, *name) not in self._sound:
                self._sound[(section, *name)] = self._passes(section, trial, check)
            if not self._sound[(section, *name)]:
                if section == "data":  # nothing else can be told without it
                    return None
                sound = False
        return self._finish(trial) if sound else None

    def _passes(self, section: str, trial: Trial, check: Any) -> bool:
        try:
            check(trial)
        except CasemateError as error:
            self._problems.add(trial.places.get(section, trial.path), str(error))
            return False
        return True

    def _check_data(self, trial: Trial) -> None:
        if not len(self._gates.data(trial.data, "test")):
            raise UsageError("the test split is empty; give one with samples to attack")

    def _check_model(self, trial: Trial) -> None:
        self._gates.model_key(trial)

    def _check_goal(self, trial: Trial) -> None:
        start, end = self._gates.labels(trial)
        if start is not None and start == end:
            raise UsageError("from and to are the same class; the attacker wants another one")
        if start is not None:
            self._gates.samples(trial)  # refuses a class without samples

    def _check_attack(self, trial: Trial) -> None:
        from casemate.access import open_access  # noqa: PLC0415 - imports torch
        from casemate.threats import Goal as Aim  # noqa: PLC0415 - as above

        attack = trial.attack.value
        wanted = Aim.INTEGRITY_UNTARGETED if trial.goal.to is None else Aim.INTEGRITY_TARGETED
        if wanted not in attack.threat.goals:
            can = " and ".join(g.value for g in attack.threat.goals)
            raise UsageError(
                f"{trial.attack.name} is for {can}, not for {wanted.value}; change the goal"
            )
        if hasattr(attack, "check"):
            attack.check(self._gates.data(trial.data, "test").domain)
        if trial.model.architecture is None and self._sound_model(trial):
            given = self._gates.given(trial)
            if given is not None:
                open_access(attack.threat.access, given)

    def _sound_model(self, trial: Trial) -> bool:
        name = ("model", trial.data.digest, trial.model.digest, str(trial.options.seed))
        return self._sound.get(name, False)

    def _check_defense(self, trial: Trial) -> None:
        if trial.defense is not None and hasattr(trial.defense.value, "check"):
            trial.defense.value.check(self._gates.data(trial.data, "test").domain)

    def _finish(self, trial: Trial) -> Draft:
        gates, options = self._gates, trial.options
        test = gates.data(trial.data, "test")
        start, end = gates.labels(trial)
        attacker = options.attacker if trial.defense is not None else None
        defense = trial.defense
        n = len(gates.samples(trial))
        common = {
            "attacker": attacker,
            "samples": n,
            "early_stop": options.early_stop,
            "round": options.round,
            "seed": options.seed,
        }
        model = gates.model_key(trial)
        identity = {
            "data": test.digest,
            "model": model,
            "attack": {"revision": trial.attack.revision, **trial.attack.settings},
            "goal": {"from": start, "to": end},
            "defense": None
            if defense is None
            else {"revision": defense.revision, **defense.settings},
            **common,
            "device": gates.device.partition(":")[0],
        }
        settings = {
            "data": trial.data.settings,
            "model": trial.model.settings,
            "model_digest": model,
            "attack": trial.attack.settings,
            "goal": {
                "from": None if start is None else test.classes[start],
                "to": None if end is None else test.classes[end],
            },
            "defense": None if defense is None else defense.settings,
            **common,
        }
        # the same as hashing all of `identity`, but a plugin's hash is at hand already
        name = key(
            "trial",
            {**identity, "attack": trial.attack.digest, "defense": defense and defense.digest},
        )
        return Draft(trial, name, identity, settings, n, gates.cost(trial, n))


def _reason(draft: Draft, before: tuple[str, dict[str, Any]] | None, *, cached: bool) -> str:
    if cached:
        return "cached"
    if before is None:
        return "new"
    last_key, last_identity = before
    if last_key == draft.key:
        return "not finished in the last run"
    return f"changed: {changed(last_identity, draft.identity)}"


def _estimate(cost: Cost, pace: Pace) -> float:
    """Return the seconds of a trial in which no sample is dropped early."""
    backward = pace.backward or 0.0
    return (cost.forward - cost.backward) * pace.forward + cost.backward * backward
