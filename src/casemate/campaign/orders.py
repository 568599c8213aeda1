"""What models the trials of a campaign need at the training gate: their names, data and cost.

Nothing is trained here. A model has the digest of all that decides it for a name: the reference of
a backdoor is the surrogate's sibling and the undefended victim of every repair, and one control, a
clean model of another seed, serves all attacks and defenses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.campaign.sections import Training
from casemate.errors import UsageError
from casemate.identity import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate.campaign.plugins import Plugin
    from casemate.campaign.trials import Trial
    from casemate.data.dataset import Dataset, Split
    from casemate.models.architecture import Architecture
    from casemate.training.making import Order
    from casemate.training.passes import Passes

__all__ = ["Orders"]

_NOTHING = Training()


class Orders:
    """Names, data and orders of the models of trials, attacked and defended or not.

    Args:
        data: Returns a split of a data source.
        device: Where models are trained.
        base_dir: Where the factory of a user's own network is looked for first.
    """

    def __init__(
        self, data: Callable[[Plugin, Split], Dataset], *, device: str, base_dir: Path
    ) -> None:
        self._data = data
        self.device = device
        self._base_dir = base_dir
        self._own: dict[tuple[str, str], Architecture] = {}
        self._keys: dict[tuple[object, ...], str] = {}
        self._halves: dict[tuple[object, ...], tuple[Dataset, Dataset | None]] = {}

    def architecture(self, trial: Trial) -> Architecture:
        """Return what the trial's model is a network of.

        Raises:
            UsageError: If the model comes trained, or is of a factory that builds no network that
                can be trained on the data.
        """
        model = trial.model
        if model.architecture is not None:
            registered: Architecture = model.architecture.value
            return registered
        if model.given is None or not model.trained_here:
            raise UsageError(
                "the training gate needs a model that is trained here; give an architecture, or a "
                "factory with a recipe"
            )
        name = (model.digest, trial.data.digest)
        if name not in self._own:
            from casemate.models.own import declare  # noqa: PLC0415 - imports torch

            train = self._data(trial.data, "train")
            self._own[name] = declare(
                model.given["factory"],
                arguments=model.given.get("arguments"),
                domain=train.domain,
                classes=len(train.classes),
                folder=self._base_dir,
            )
        return self._own[name]

    # -- names ----------------------------------------------------------------------------------

    def reference_key(self, trial: Trial) -> str:
        """Return the digest of the trial's model trained without attack and defense."""
        return self._clean_key(trial, trial.options.seed)

    def control_key(self, trial: Trial) -> str:
        """Return the digest of the reference's control: trained alike from another seed."""
        from casemate.training.making import control_seed  # noqa: PLC0415 - imports torch

        return self._clean_key(trial, control_seed(trial.options.seed))

    def _clean_key(self, trial: Trial, seed: int) -> str:
        gate = trial.training or _NOTHING
        name = (trial.model.digest, trial.data.digest, gate.clean, trial.options.seed, seed)
        if name not in self._keys:
            self._keys[name] = self._trained_clean(trial, seed)
        return self._keys[name]

    def _trained_clean(self, trial: Trial, seed: int) -> str:
        from casemate.models.architecture import skeleton  # noqa: PLC0415 - imports torch
        from casemate.training.loop import check_data  # noqa: PLC0415 - as above
        from casemate.training.trained import training_key  # noqa: PLC0415 - as above

        train, model = self.halves(trial)[0], trial.model
        architecture = self.architecture(trial)
        # both refuse what cannot be
        skeleton(architecture, train.domain, len(train.classes))
        check_data(model.recipe, train)
        return training_key(
            architecture,
            model.recipe,
            train,
            seed=seed,
            device=self.device,
        )

    def victim_key(self, trial: Trial, *, defended: bool = True) -> str:
        """Return the digest of the trial's model, without training it."""
        gate = trial.training or _NOTHING
        name = self.reference_key(trial)
        if gate.attack is not None:
            name = key("attacked model", name, gate.attack.digest)
        if gate.defense is not None and defended:
            held = self.halves(trial)[1]
            name = key("defended model", name, gate.defense.digest, held and held.digest)
        return name

    def needed(self, trial: Trial) -> list[str]:
        """Return names of the models that are trained for a trial, attackers' and defenders' too.

        A plugin says in `trainings` how many models of its own it trains; those have stand-in
        names.
        """
        gate = trial.training or _NOTHING
        attacked = self.victim_key(trial, defended=False)
        names = [self.reference_key(trial), attacked]
        if trial.exposed:
            names.append(self.control_key(trial))
        if gate.defense is not None and gate.defense.value.phase != "after":
            names.append(self.victim_key(trial))
        for plugin, owner in ((gate.attack, attacked), (gate.defense, self.victim_key(trial))):
            count = getattr(plugin.value, "trainings", 0) if plugin else 0
            names += [f"{owner}, {i + 1} more" for i in range(count)]
        return list(dict.fromkeys(names))

    def labors(self, trial: Trial) -> dict[str, tuple[Passes, ...]]:
        """Return what attack and defense compute besides, by the name of the model they lead to."""
        gate, found = trial.training or _NOTHING, {}
        order = self.order(trial)
        for plugin, owner, lab, clean in (
            (gate.attack, self.victim_key(trial, defended=False), order.lab("attacker"), None),
            (gate.defense, self.victim_key(trial), order.lab("defender"), order.held),
        ):
            passes = getattr(plugin.value, "passes", None) if plugin else None
            if passes is not None:
                found[owner] = passes(order.data, lab, clean)
        return found

    # -- data -----------------------------------------------------------------------------------

    def halves(self, trial: Trial) -> tuple[Dataset, Dataset | None]:
        """Return the data that the model is trained on and those held out as clean."""
        from casemate.training.gate import hold_out  # noqa: PLC0415 - imports torch

        clean = (trial.training or _NOTHING).clean
        name = (trial.data.digest, clean, trial.options.seed)
        if name not in self._halves:
            train = self._data(trial.data, "train")
            self._halves[name] = hold_out(train, clean, trial.options.seed)
        return self._halves[name]

    def check_attack(self, trial: Trial) -> None:
        """Raise `UsageError` if the attack does not fit the data."""
        gate = trial.training or _NOTHING
        if gate.attack is not None:
            from casemate.training.gate import check_attack  # noqa: PLC0415 - imports torch

            train = self.halves(trial)[0]
            check_attack(gate.attack.value, train, self._data(trial.data, "test"))

    def check_defense(self, trial: Trial) -> None:
        """Raise `UsageError` if the defense foresees that it cannot work."""
        self.order(trial, attacked=False).check_defense()

    def order(self, trial: Trial, *, attacked: bool = True, defended: bool = True) -> Order:
        """Return all that decides the trial's model.

        Raises:
            UsageError: If it is not trained here.
        """
        from casemate.training.making import Order  # noqa: PLC0415 - imports torch

        gate, model = trial.training or _NOTHING, trial.model
        architecture = self.architecture(trial)
        data, held = self.halves(trial)
        attack = gate.attack.value if gate.attack and attacked else None
        return Order(
            architecture=architecture,
            recipe=model.recipe,
            seed=trial.options.seed,
            data=data,
            held=held,
            known=self._data(trial.data, "test") if getattr(attack, "surrogate", False) else None,
            attack=attack,
            defense=gate.defense.value if gate.defense and defended else None,
            device=self.device,
        )

    def control_order(self, trial: Trial) -> Order:
        """Return all that decides the control of the trial's reference."""
        return self.order(trial, attacked=False, defended=False).control()
