"""The training gate of a campaign: victims, the models they are held against, and all they need.

A model is trained once, whoever asks for it: the reference of a backdoor is the surrogate's sibling
and the undefended victim of every repair, and one control, a clean model of another seed, serves
all attacks and defenses. Models lie in the store; poisoned data do not, they stay at hand as long
as there is room and are made again from their stream otherwise.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from casemate.campaign.events import ModelReady, ModelTraining
from casemate.campaign.poisons import Poisons
from casemate.campaign.sections import Training, plain_model
from casemate.campaign.shelf import StoreShelf
from casemate.errors import UsageError
from casemate.identity import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate.campaign.events import Listener
    from casemate.campaign.plugins import Plugin
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.data.dataset import Dataset, Split
    from casemate.errors import CasemateError
    from casemate.training.making import Order
    from casemate.training.poisoned import Poisoned
    from casemate.training.progress import Progress
    from casemate.training.stored import StoredModel
    from casemate.training.trained import TrainedModel

__all__ = ["Victims"]

_Model = TypeVar("_Model", bound="StoredModel")

_NOTHING = Training()


class Victims:
    """Trains the models of trials, attacked and defended or not.

    Args:
        data: Returns a split of a data source.
        device: Where models are trained.
        origin: Where that comes from which is computed now.
    """

    def __init__(
        self,
        data: Callable[[Plugin, Split], Dataset],
        *,
        device: str,
        origin: Callable[[], dict[str, Any]],
    ) -> None:
        self._data = data
        self.device = device
        self._origin = origin
        self._keys: dict[tuple[object, ...], str] = {}
        self._halves: dict[tuple[object, ...], tuple[Dataset, Dataset | None]] = {}
        self._poisons = Poisons()
        self._failed: dict[str, CasemateError] = {}

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
        assert model.architecture is not None  # noqa: S101 - the caller asked
        # both refuse what cannot be
        skeleton(model.architecture.value, train.domain, len(train.classes))
        check_data(model.recipe, train)
        return training_key(
            model.architecture.value,
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
        if trial.attack is None:
            names.append(self.control_key(trial))
        if gate.defense is not None and gate.defense.value.phase != "after":
            names.append(self.victim_key(trial))
        for plugin, owner in ((gate.attack, attacked), (gate.defense, self.victim_key(trial))):
            count = getattr(plugin.value, "trainings", 0) if plugin else 0
            names += [f"{owner}, {i + 1} more" for i in range(count)]
        return list(dict.fromkeys(names))

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
            gate.attack.value.check(self.halves(trial)[0])

    def check_defense(self, trial: Trial) -> None:
        """Raise `UsageError` if the defense foresees that it cannot work."""
        order = self.order(trial, attacked=False)
        check = getattr(order.defense, "check", None)
        if check is not None:
            check(order.data, order.lab("defender", None, None), order.held)

    def poisoned(self, trial: Trial, store: Store, tell: Listener) -> Poisoned | None:
        """Return the data after the trial's attack on them, or None without one."""
        gate = trial.training
        if gate is None or gate.attack is None:
            return None

        def make() -> Poisoned:
            words = f"the attacker's {plain_model(trial.model)}"
            order = self.order(trial, defended=False)
            lab = order.lab("attacker", self.shelf(store), _teller(tell, words))
            made = order.poisoned(lab)
            assert made is not None  # noqa: S101 - there is an attack
            return made

        return self._poisons.of(self.victim_key(trial, defended=False), make)

    def order(self, trial: Trial, *, attacked: bool = True, defended: bool = True) -> Order:
        """Return all that decides the trial's model.

        Raises:
            UsageError: If it is not trained here.
        """
        from casemate.training.making import Order  # noqa: PLC0415 - imports torch

        gate, model = trial.training or _NOTHING, trial.model
        if model.architecture is None:
            raise UsageError(
                "the training gate needs a model that is trained here; give an architecture"
            )
        data, held = self.halves(trial)
        attack = gate.attack.value if gate.attack and attacked else None
        return Order(
            architecture=model.architecture.value,
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

    # -- models ---------------------------------------------------------------------------------

    def reference(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the trial's model trained without attack and defense."""
        words = plain_model(trial.model)
        order = self.order(trial, attacked=False, defended=False)
        return self._pooled(
            self.reference_key(trial),
            lambda: order.train(order.data, _teller(tell, words)),
            store,
            tell,
            words,
        )

    def control(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the reference's control: a clean model too, of another seed."""
        words = f"{plain_model(trial.model)} of another seed"
        order = self.control_order(trial)
        return self._pooled(
            self.control_key(trial),
            lambda: order.train(order.data, _teller(tell, words)),
            store,
            tell,
            words,
        )

    def victim(self, trial: Trial, store: Store, tell: Listener) -> StoredModel:
        """Return the trial's model: from the store, or trained now and kept there."""
        gate = trial.training or _NOTHING
        if gate.defense is None:
            return self._attacked(trial, store, tell)
        # evidence says what the attack did to the undefended model, whoever made it and when
        attacked = self.victim_key(trial, defended=False)
        if gate.attack is not None and store.value(_facts_name(attacked)) is None:
            self._attacked(trial, store, tell)
        name = self.victim_key(trial)
        words = f"{plain_model(trial.model)} with {gate.defense.name}"
        return self._pooled(name, lambda: self._defended(trial, store, tell), store, tell, words)

    def keep(self, trial: Trial, name: str, model: StoredModel, found: Any, store: Store) -> None:
        """Put a model into the store, with what there is to say of it.

        Args:
            trial: Of the model.
            name: Of the model.
            model: As trained.
            found: The `Poisoned` that it was trained on, the facts of its defense, or None.
            store: Where it goes.
        """
        from casemate.training.poisoned import Poisoned  # noqa: PLC0415 - imports torch

        facts: dict[str, Any] | None = found
        if isinstance(found, Poisoned):
            self._poisons.put(self.victim_key(trial, defended=False), found)
            facts = self._attack_facts(model, found)
        if facts is not None:
            store.put_value(_facts_name(name), facts)
        self.shelf(store).keep(name, model.save)

    def fail(self, name: str, error: CasemateError) -> None:
        """Note why a model cannot be made; who asks for it is told so."""
        self._failed[name] = error

    def shelf(self, store: Store) -> StoreShelf:
        """Return where models of labs and trials are kept."""
        return StoreShelf(store, self._origin)

    def facts(self, trial: Trial, store: Store) -> dict[str, Any]:
        """Return what attack and defense did, as `training.gate.Passage.facts` has it."""
        known = store.value(_facts_name(self.victim_key(trial, defended=False))) or {}
        gate = trial.training or _NOTHING
        if gate.defense is not None:
            known |= {"defense": store.value(_facts_name(self.victim_key(trial))) or {}}
        return known

    def _attack_facts(self, model: StoredModel, poisoned: Poisoned) -> dict[str, Any]:
        from casemate.training.gate import learned  # noqa: PLC0415 - imports torch

        return {
            "poisoned": len(poisoned.touched),
            "relabeled": len(poisoned.relabeled),
            "training samples": len(poisoned.dataset),
            "targeted": poisoned.trigger is not None or poisoned.aim is not None,
            "learned": asdict(learned(model, poisoned, device=self.device)),
        }

    def _attacked(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the model as the attack makes it, without defense."""
        gate = trial.training or _NOTHING
        if gate.attack is None:
            return self.reference(trial, store, tell)
        name = self.victim_key(trial, defended=False)
        words = f"{plain_model(trial.model)} under {gate.attack.name}"

        def make() -> TrainedModel:
            poisoned = self.poisoned(trial, store, tell)
            assert poisoned is not None  # noqa: S101 - there is an attack
            order = self.order(trial, defended=False)
            model = order.train(poisoned.dataset, _teller(tell, words))
            store.put_value(_facts_name(name), self._attack_facts(model, poisoned))
            return model

        return self._pooled(name, make, store, tell, words)

    def _defended(self, trial: Trial, store: Store, tell: Listener) -> StoredModel:
        gate = trial.training or _NOTHING
        assert gate.defense is not None  # noqa: S101 - the caller asked
        order = self.order(trial)
        poisoned = self.poisoned(trial, store, tell)
        data = order.data if poisoned is None else poisoned.dataset
        words = f"{plain_model(trial.model)} with {gate.defense.name}"

        def undefended(kept: Dataset) -> TrainedModel:
            if kept is data:
                return self._attacked(trial, store, tell)
            return order.train(kept, _teller(tell, words))

        whose = f"the defender's {plain_model(trial.model)}"
        lab = order.lab("defender", self.shelf(store), _teller(tell, whose))
        passage = order.defended(poisoned, undefended, lab)
        store.put_value(_facts_name(self.victim_key(trial)), passage.facts)
        return passage.model

    def _pooled(
        self,
        name: str,
        make: Callable[[], _Model],
        store: Store,
        tell: Listener,
        words: str,
    ) -> _Model:
        """Return the model of that name from the store, where it is put first if need be."""
        from casemate.training.stored import load_model  # noqa: PLC0415 - imports torch

        if name in self._failed:
            raise self._failed[name]
        started = time.perf_counter()
        path: Path | None = store.file(name)
        cached = path is not None
        if path is None:
            tell(ModelTraining(model=words, done=0, total=1))
            path = self.shelf(store).keep(name, make().save)
        # also after training, so that a campaign that was interrupted sees the very same model
        model = cast("_Model", load_model(path))  # a name is of what its maker makes
        tell(ModelReady(model=words, seconds=time.perf_counter() - started, cached=cached))
        return model


def _facts_name(name: str) -> str:
    return key("training facts", name)


def _teller(tell: Listener, words: str) -> Callable[[Progress], None]:
    """Return what tells of a training's progress."""
    return lambda p: tell(
        ModelTraining(
            model=words,
            done=p.step,
            total=p.steps,
            note=f"epoch {p.epoch} of {p.epochs}, accuracy {100 * p.accuracy:.1f} %",
        )
    )
