"""Whether a trial can run: all about it that can be told before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.errors import CasemateError, UsageError

if TYPE_CHECKING:
    from casemate.campaign.document import Problems
    from casemate.campaign.gates import Gates
    from casemate.campaign.trials import Trial

__all__ = ["Soundness"]

_BACKDOOR = "backdoor-data"
"""The threat whose attacks leave a trigger for test time."""


class Soundness:
    """Holds trials against data and models; what is wrong is noted once and not tried again.

    Args:
        gates: Loads data and the user's models.
        problems: Told what is wrong.
    """

    def __init__(self, gates: Gates, problems: Problems) -> None:
        self._gates = gates
        self._problems = problems
        self._sound: dict[tuple[str, ...], bool] = {}

    def of(self, trial: Trial) -> bool:
        """Return whether nothing is wrong with a trial."""
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
                    return False
                sound = False
        return sound

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
