"""Whether a trial can run: all about it that can be told before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.hardware_gate import check_hardware
from casemate.campaign.plugins import keys_of, located
from casemate.campaign.sections import Goal as GoalSection
from casemate.campaign.sections import Training
from casemate.errors import CasemateError, UsageError
from casemate.threats import Access
from casemate.threats import Goal as Aim

if TYPE_CHECKING:
    from casemate.campaign.document import Problems
    from casemate.campaign.gates import Gates
    from casemate.campaign.trials import Trial

__all__ = ["Soundness"]

_FIRST = ("data", "training", "training.clean")
"""Sections without which nothing else can be told."""
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
        gate = trial.training or Training()
        data, goal = trial.data.digest, repr(trial.goal)
        attack, defense, monitor, poison, remedy = (
            plugin.digest if plugin is not None else ""
            for plugin in (trial.attack, trial.defense, trial.monitor, gate.attack, gate.defense)
        )
        struck = "" if trial.hardware is None else trial.hardware.digest
        samples = repr((trial.options.samples, trial.options.seed, goal))
        held_by = str(trial.options.seed) if gate.clean else ""
        clean, model = (data, str(gate.clean), held_by), self._model_name(trial)
        checks = (
            ("data", (data, str(trial.model.trained_here)), self._check_data),
            ("training", (trial.model.digest, str(trial.training is None)), self._check_training),
            ("training.clean", (trial.model.digest, *clean), self._check_clean),
            ("training.attack", (trial.model.digest, *clean, poison), self._check_poison),
            ("model", model, self._check_model),
            ("training.defense", (trial.model.digest, *clean, remedy), self._check_remedy),
            ("goal", (data, goal), self._check_goal),
            ("round", (data, str(trial.options.round)), self._check_round),
            ("attack", (*model, attack, str(trial.goal.to is None)), self._check_attack),
            ("defense", (data, defense), self._check_defense),
            ("monitor", (*model, attack, monitor), self._check_monitor),
            ("hardware", (*model, samples, struck), self._check_hardware),
        )
        sound = True
        for section, name, check in checks:
            if (section, *name) not in self._sound:
                self._sound[(section, *name)] = self._passes(section, trial, check)
            if not self._sound[(section, *name)]:
                if section in _FIRST:
                    return False
                sound = False
        return sound

    def _passes(self, section: str, trial: Trial, check: Any) -> bool:
        try:
            check(trial)
        except CasemateError as error:
            for below, sentence in located(error, _keys(section, trial)):
                self._problems.add(trial.place(section, below), sentence)
            return False
        return True

    def _check_data(self, trial: Trial) -> None:
        if not len(self._gates.data(trial.data, "test")):
            raise UsageError("the test split is empty; give one with samples to attack")
        if trial.model.trained_here:
            self._gates.data(trial.data, "train")

    def _model_name(self, trial: Trial) -> tuple[str, ...]:
        """Return what tells a trial's model from others."""
        gate = trial.training.digest if trial.training else ""
        return trial.data.digest, trial.model.digest, gate, str(trial.options.seed)

    def _check_training(self, trial: Trial) -> None:
        if trial.training is not None and not trial.model.trained_here:
            raise UsageError(
                "the training gate needs a model that is trained here, but this one comes trained; "
                "name an architecture, give a factory a recipe instead of weights, or leave "
                "training out"
            )

    def _check_clean(self, trial: Trial) -> None:
        if trial.training is None or not trial.training.clean:
            return
        rest = len(self._gates.orders.halves(trial)[0])
        train = self._gates.data(trial.data, "train")
        # a small split has no batch to spare, but may lose its smaller half
        least = min(trial.model.recipe.batch_size, (len(train) + 1) // 2)
        if rest < least:
            raise UsageError(
                f"clean is {trial.training.clean} of the {len(train)} samples of {train.name}, "
                f"which leaves {rest} to train on, fewer than a batch of the recipe or half of the "
                f"split; hold out at most {len(train) - least}"
            )

    def _check_poison(self, trial: Trial) -> None:
        if trial.training is not None:
            self._gates.orders.check_attack(trial)

    def _check_model(self, trial: Trial) -> None:
        self._gates.model_key(trial)

    def _check_remedy(self, trial: Trial) -> None:
        if trial.training is not None and self._sound_model(trial):
            self._gates.orders.check_defense(trial)

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
        if not trial.model.trained_here and self._sound_model(trial):
            given = self._gates.given(trial)
            if given is not None:
                open_access(attack.threat.access, given)
        if attack.threat.access is Access.GRADIENTS and self._committee(trial):
            raise UsageError(
                f"{trial.attack.name} needs gradients, but the votes of the committee that "
                f"{self._committee(trial)} makes have none; choose an attack that needs less "
                "(casemate list attacks), or another defense"
            )

    def _check_hardware(self, trial: Trial) -> None:
        if trial.hardware is None or not self._sound_model(trial):
            return
        if self._committee(trial):
            raise UsageError(
                f"one network is deployed, but {self._committee(trial)} makes a committee of "
                "several; leave hardware out, or take another defense under training"
            )
        check_hardware(trial, self._gates)

    def _committee(self, trial: Trial) -> str:
        """Return the name of the defense at training that makes a committee, "" without one."""
        defense = trial.training and trial.training.defense
        return defense.name if defense and getattr(defense.value, "committee", False) else ""

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
        if self._committee(trial):
            raise UsageError(
                f"{trial.monitor.name} looks into one network, but {self._committee(trial)} makes "
                "a committee of several; leave the monitor out, or take another defense"
            )
        guarded = self._gates.guarded(trial)
        assert guarded is not None  # noqa: S101 - there are a monitor and clean samples
        guarded.check()


def _keys(section: str, trial: Trial) -> frozenset[str]:
    """Return the keys of a section, which a refusal may name."""
    if section == "goal":
        return keys_of(GoalSection)
    gate = trial.training or Training()
    recipe = {"recipe"} if section == "model" else set()
    if section == "hardware":
        return frozenset()
    plugin = {
        "model": trial.model.architecture,
        "training.attack": gate.attack,
        "training.defense": gate.defense,
        "attack": trial.attack,
        "defense": trial.defense,
        "monitor": trial.monitor,
    }.get(section)
    if plugin is None:
        return frozenset(recipe)
    cls: type = type(plugin.value)
    return keys_of(cls) | recipe
