"""Trials resolved against their data and models: everything that can be checked before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casemate.campaign.collector import without_collecting
from casemate.campaign.rules import matched
from casemate.errors import CasemateError, UsageError
from casemate.identity import key

if TYPE_CHECKING:
    from casemate.campaign.document import Problems
    from casemate.campaign.gates import Gates
    from casemate.campaign.plugins import Plugin
    from casemate.campaign.spec import Spec
    from casemate.campaign.trials import Trial
    from casemate.inference.evaluate import Cost

__all__ = ["Draft", "make_drafts"]

_BACKDOOR = "backdoor-data"
"""The threat whose attacks leave a trigger for test time."""


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
    with without_collecting():
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
        data, attack = trial.data.digest, trial.attack.digest if trial.attack else ""
        defense = trial.defense.digest if trial.defense else ""
        goal, model = repr(trial.goal), self._model_name(trial)
        checks = (
            ("data", (data,), self._check_data),
            ("training", model, self._check_training),
            ("model", model, self._check_model),
            ("goal", (data, goal), self._check_goal),
            ("round", (data, str(trial.options.round)), self._check_round),
            ("attack", (*model, attack, str(trial.goal.to is None)), self._check_attack),
            ("defense", (data, defense), self._check_defense),
            ("monitor", (*model, attack, str(trial.monitor is None)), self._check_monitor),
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
            where = "training.attack" if section == "training" else section
            place = trial.places.get(where, trial.places.get(section, trial.path))
            self._problems.add(place, str(error))
            return False
        return True

    def _check_data(self, trial: Trial) -> None:
        if not len(self._gates.data(trial.data, "test")):
            raise UsageError("the test split is empty; give one with samples to attack")

    def _model_name(self, trial: Trial) -> tuple[str, ...]:
        """Return what tells a trial's model from others."""
        gate = trial.training.digest if trial.training else ""
        return trial.data.digest, trial.model.digest, gate, str(trial.options.seed)

    def _check_training(self, trial: Trial) -> None:
        if trial.training is None:
            return
        if trial.model.architecture is None:
            raise UsageError(
                "the training gate needs a model that is trained here, but this one comes trained; "
                "name an architecture, or leave training out"
            )
        self._gates.victims.check(trial)

    def _check_model(self, trial: Trial) -> None:
        self._gates.model_key(trial)

    def _check_goal(self, trial: Trial) -> None:
        start, end = self._gates.labels(trial)
        if start is not None and start == end:
            raise UsageError("from and to are the same class; the attacker wants another one")
        if start is not None:
            self._gates.samples(trial)  # refuses a class without samples

    def _check_round(self, trial: Trial) -> None:
        from casemate.inference.evaluate import check_grid  # noqa: PLC0415 - imports torch

        if trial.options.round:
            check_grid(self._gates.data(trial.data, "test"))

    def _check_attack(self, trial: Trial) -> None:
        from casemate.access import open_access  # noqa: PLC0415 - imports torch
        from casemate.threats import Goal as Aim  # noqa: PLC0415 - as above

        if trial.attack is None:
            return
        attack = trial.attack.value
        wanted = Aim.INTEGRITY_UNTARGETED if trial.goal.to is None else Aim.INTEGRITY_TARGETED
        if wanted not in attack.threat.goals:
            can = " and ".join(g.value for g in attack.threat.goals)
            raise UsageError(
                f"{trial.attack.name} is for {can}, not for {wanted.value}; change the goal"
            )
        attack.check(self._gates.data(trial.data, "test").domain)
        if trial.model.architecture is None and self._sound_model(trial):
            given = self._gates.given(trial)
            if given is not None:
                open_access(attack.threat.access, given)

    def _sound_model(self, trial: Trial) -> bool:
        return self._sound.get(("model", *self._model_name(trial)), False)

    def _check_defense(self, trial: Trial) -> None:
        if trial.defense is not None:
            trial.defense.value.check(self._gates.data(trial.data, "test").domain)

    def _check_monitor(self, trial: Trial) -> None:
        gate = trial.training
        if trial.monitor is None:
            return
        poison = gate.attack if gate is not None else None
        if trial.attack is not None or poison is None or poison.value.threat.threat != _BACKDOOR:
            raise UsageError(
                f"{trial.monitor.name} looks for triggers; give it a trial that ends with the "
                "training of a backdoor, such as {training: {attack: {name: badnets}}}"
            )
        if gate is None or not gate.clean:
            raise UsageError(
                f"{trial.monitor.name} needs clean samples and gets none; set training.clean to "
                "how many of the training split to hold out"
            )

    def _finish(self, trial: Trial) -> Draft:
        gates, options = self._gates, trial.options
        test = gates.data(trial.data, "test")
        start, end = gates.labels(trial)
        attack, defense, gate = trial.attack, trial.defense, trial.training
        n = len(gates.samples(trial))
        common: dict[str, Any] = {"samples": n, "round": options.round, "seed": options.seed}
        if attack is not None:
            common |= {
                "attacker": options.attacker if defense is not None else None,
                "early_stop": options.early_stop,
                "queries": options.queries,
            }
        model = gates.model_key(trial)
        identity = {
            "data": test.digest,
            "model": model,
            "attack": _revised(attack),
            "goal": {"from": start, "to": end},
            "defense": _revised(defense),
            **common,
            "device": gates.device.partition(":")[0],
        }
        if gate is not None:
            identity["training"] = {
                "attack": _revised(gate.attack),
                "defense": _revised(gate.defense),
                "clean": gate.clean,
            }
        watched = trial.monitor
        settings = {
            "data": trial.data.settings,
            "model": trial.model.settings,
            "model_digest": gates.subject_key(trial),
            "training": gate and gate.settings,
            "attack": attack and attack.settings,
            "goal": {
                "from": None if start is None else test.classes[start],
                "to": None if end is None else test.classes[end],
            },
            "defense": None if defense is None else defense.settings,
            **({} if watched is None else {"monitor": watched.settings}),
            **common,
        }
        if watched is not None:
            identity["monitor"] = _revised(watched)
        if attack is None:
            identity["exposure"] = {"revision": _exposure_revision()}
        # the same as hashing all of `identity`, but a plugin's hash is at hand already
        name = key(
            "trial",
            {
                **identity,
                "attack": attack and attack.digest,
                "defense": defense and defense.digest,
                **({"training": gate.digest} if gate is not None else {}),
                **({"monitor": watched.digest} if watched is not None else {}),
            },
        )
        return Draft(trial, name, identity, settings, n, gates.cost(trial, n))


def _exposure_revision() -> int:
    from casemate.inference.exposure import Exposure  # noqa: PLC0415 - imports torch

    return Exposure.revision


def _revised(plugin: Plugin | None) -> dict[str, Any] | None:
    """Return a plugin's settings with its revision."""
    return None if plugin is None else {"revision": plugin.revision, **plugin.settings}
