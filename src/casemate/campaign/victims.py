"""The training gate of a campaign: victims, and the models they are held against, are made.

A model is trained once, whoever asks for it: `orders` says which trials share one.
Models lie in the store; poisoned data do not, they stay at hand as long as there is room and are
made again from their stream otherwise.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from casemate.campaign.events import ModelReady, ModelTraining
from casemate.campaign.facts import attack_facts
from casemate.campaign.poisons import Poisons
from casemate.campaign.sections import Training, plain_model
from casemate.campaign.shelf import StoreShelf
from casemate.identity import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from casemate.campaign.events import Listener
    from casemate.campaign.orders import Orders
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.data.dataset import Dataset
    from casemate.errors import CasemateError
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
        orders: Says which models trials need.
        origin: Where that comes from which is computed now.
    """

    def __init__(
        self,
        orders: Orders,
        *,
        origin: Callable[[], dict[str, Any]],
    ) -> None:
        self.orders = orders
        self._origin = origin
        self._poisons = Poisons()
        self._failed: dict[str, CasemateError] = {}

    def poisoned(self, trial: Trial, store: Store, tell: Listener) -> Poisoned | None:
        """Return the data after the trial's attack on them, or None without one."""
        gate = trial.training
        if gate is None or gate.attack is None:
            return None

        def make() -> Poisoned:
            words = f"the attacker's {plain_model(trial.model)}"
            order = self.orders.order(trial, defended=False)
            lab = order.lab("attacker", self.shelf(store), _teller(tell, words))
            made = order.poisoned(lab)
            assert made is not None  # noqa: S101 - there is an attack
            return made

        return self._poisons.of(self.orders.victim_key(trial, defended=False), make)

    def reference(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the trial's model trained without attack and defense."""
        words = plain_model(trial.model)
        order = self.orders.order(trial, attacked=False, defended=False)
        return self._pooled(
            self.orders.reference_key(trial),
            lambda: order.train(order.data, _teller(tell, words)),
            store,
            tell,
            words,
        )

    def control(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the reference's control: a clean model too, of another seed."""
        words = f"{plain_model(trial.model)} of another seed"
        order = self.orders.control_order(trial)
        return self._pooled(
            self.orders.control_key(trial),
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
        attacked = self.orders.victim_key(trial, defended=False)
        if gate.attack is not None and store.value(_facts_name(attacked)) is None:
            self._attacked(trial, store, tell)
        name = self.orders.victim_key(trial)
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
            self._poisons.put(self.orders.victim_key(trial, defended=False), found)
            facts = attack_facts(model, found, device=self.orders.device)
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
        known = store.value(_facts_name(self.orders.victim_key(trial, defended=False))) or {}
        gate = trial.training or _NOTHING
        if gate.defense is not None:
            known |= {"defense": store.value(_facts_name(self.orders.victim_key(trial))) or {}}
        return known

    def _attacked(self, trial: Trial, store: Store, tell: Listener) -> TrainedModel:
        """Return the model as the attack makes it, without defense."""
        gate = trial.training or _NOTHING
        if gate.attack is None:
            return self.reference(trial, store, tell)
        name = self.orders.victim_key(trial, defended=False)
        words = f"{plain_model(trial.model)} under {gate.attack.name}"

        def make() -> TrainedModel:
            poisoned = self.poisoned(trial, store, tell)
            assert poisoned is not None  # noqa: S101 - there is an attack
            order = self.orders.order(trial, defended=False)
            model = order.train(poisoned.dataset, _teller(tell, words))
            store.put_value(
                _facts_name(name), attack_facts(model, poisoned, device=self.orders.device)
            )
            return model

        return self._pooled(name, make, store, tell, words)

    def _defended(self, trial: Trial, store: Store, tell: Listener) -> StoredModel:
        gate = trial.training or _NOTHING
        assert gate.defense is not None  # noqa: S101 - the caller asked
        order = self.orders.order(trial)
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
        store.put_value(_facts_name(self.orders.victim_key(trial)), passage.facts)
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
