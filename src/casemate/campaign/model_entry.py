"""What a report says of a model under test; its accuracy is measured once and kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from casemate.campaign.events import ModelMeasuring
from casemate.campaign.sections import plain_model
from casemate.identity import key

if TYPE_CHECKING:
    from casemate.campaign.events import Listener
    from casemate.campaign.gates import Gates
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial

__all__ = ["make_entry", "stored_entry"]


def stored_entry(trial: Trial, gates: Gates, store: Store) -> dict[str, Any] | None:
    """Return the entry of a trial's model if it is in the store."""
    entry: dict[str, Any] | None = store.value(_name(trial, gates))
    return entry


def make_entry(trial: Trial, gates: Gates, store: Store, tell: Listener) -> dict[str, Any]:
    """Return the entry of a trial's model, measuring its accuracy if that was never done."""
    known = stored_entry(trial, gates, store)
    if known is None:
        known = _measured(trial, gates, store, tell)
        store.put_value(_name(trial, gates), known)
    return known


def _name(trial: Trial, gates: Gates) -> str:
    test = gates.data(trial.data, "test")
    return key("model entry", gates.subject_key(trial), test.digest, trial.model.settings)


def _measured(trial: Trial, gates: Gates, store: Store, tell: Listener) -> dict[str, Any]:
    from casemate.models.accuracy import accuracy  # noqa: PLC0415 - imports torch

    target, test = gates.subject(trial, store, tell), gates.data(trial.data, "test")
    words, settings = plain_model(trial.model), dict(trial.model.settings)
    tell(ModelMeasuring(model=words, done=0, total=len(test)))
    measured = accuracy(target, test, batch_size=gates.batch_size)
    tell(ModelMeasuring(model=words, done=len(test), total=len(test)))
    source = _source(trial, gates)
    declared = settings.pop("accuracy", None)  # must not pass for the measured one
    return {
        "digest": gates.subject_key(trial),
        "name": words,
        "data": test.name,
        "classes": list(target.classes),
        "parameters": sum(p.numel() for m in target.modules for p in m.parameters()) or None,
        "accuracy": asdict(measured),
        **({"declared accuracy": declared} if declared is not None else {}),
        **({"notes": list(target.notes)} if target.notes else {}),
        **({"seed": trial.options.seed} if trial.model.trained_here else {}),
        **{k: v for k, v in settings.items() if v is not None},
        **({"source": source} if source is not None else {}),
        "outputs": target.outputs,
    }


def _source(trial: Trial, gates: Gates) -> str | None:
    """Return the content hash of the user's own network, of which the model is trained here."""
    if not trial.model.trained_here:
        return None
    return getattr(gates.orders.architecture(trial), "source", None)
