"""Models that trials will ask for, trained many at once before the first trial runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from casemate.campaign.events import ModelTraining
from casemate.errors import CasemateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from casemate.campaign.events import Listener
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.campaign.victims import Victims
    from casemate.training.making import Making

__all__ = ["train_ahead", "workers"]


def workers(device: str, models: int) -> int:
    """Return how many processes make so many models: one a core on a CPU, else this one alone."""
    from casemate.training.crew import cores  # noqa: PLC0415 - imports torch

    return max(1, min(cores(), models)) if device.partition(":")[0] == "cpu" else 1


def train_ahead(victims: Victims, trials: Sequence[Trial], store: Store, tell: Listener) -> None:
    """Train what trials will ask for by worker processes and keep it in the store.

    References and their controls come first, then victims of attacks, then defended models, which
    are made from these. What cannot be made is noted, and its trial says why.

    Args:
        victims: Names and keeps the models.
        trials: Trials that will run.
        store: Where models are kept.
        tell: Told how far it is.
    """
    orders = victims.orders
    if workers(orders.device, 2) == 1:  # not even two at once
        return
    here = [t for t in trials if t.model.trained_here]
    gated = [(t, t.training) for t in here if t.training is not None]
    clean = {orders.reference_key(t): t for t in here}
    clean |= {orders.control_key(t): t for t in here if t.attack is None}
    waves = (
        ("models", clean),
        (
            "models under attack",
            {orders.victim_key(t, defended=False): t for t, gate in gated if gate.attack},
        ),
        ("defended models", {orders.victim_key(t): t for t, gate in gated if gate.defense}),
    )
    for words, wave in waves:
        missing = {name: t for name, t in wave.items() if not store.has(name)}
        if len(missing) > 1:  # nothing to share out otherwise
            _Wave(victims, missing, store, tell, words).train()


class _Wave:
    """Models that need nothing of each other."""

    def __init__(
        self,
        victims: Victims,
        missing: Mapping[str, Trial],
        store: Store,
        tell: Listener,
        words: str,
    ) -> None:
        self.victims = victims
        self.missing = missing
        self.store = store
        self.tell = tell
        self.words = words
        self.under_way: dict[int, tuple[str, Making]] = {}
        self.shares = [0.0] * len(missing)
        self.finished = 0

    def train(self) -> None:
        """Train all of them."""
        from casemate.training.crew import share_out  # noqa: PLC0415 - imports torch

        share_out(
            self.makings(),
            workers=workers(self.victims.orders.device, len(self.missing)),
            done=self.done,
            failed=lambda number, error: self.victims.fail(self.under_way.pop(number)[0], error),
            progress=self.progress,
            shelf=self.victims.shelf(self.store),
        )

    def makings(self) -> Iterator[Making]:
        """Yield what there is to do, each when a worker is free for it."""
        number = 0
        for name, trial in self.missing.items():
            try:
                making = self.making(name, trial)
            except CasemateError as error:
                self.victims.fail(name, error)
                continue
            self.under_way[number] = (name, making)
            number += 1
            yield making

    def making(self, name: str, trial: Trial) -> Making:
        """Return what makes the model of that name."""
        from casemate.training.making import Making  # noqa: PLC0415 - imports torch

        orders, store = self.victims.orders, self.store
        if name == orders.control_key(trial):
            return Making(order=orders.control_order(trial))
        if self.words != "defended models":
            attacked = self.words == "models under attack"
            return Making(order=orders.order(trial, attacked=attacked, defended=False))
        return Making(
            order=orders.order(trial),
            poisoned=self.victims.poisoned(trial, store, self.tell),
            attacked=store.file(orders.victim_key(trial, defended=False)),
        )

    def done(self, number: int, model: Any, content: Any) -> None:
        """Keep a model."""
        name, making = self.under_way.pop(number)
        self.victims.keep(self.missing[name], name, model, making.found(content), self.store)
        self.finished += 1

    def progress(self, number: int, share: float) -> None:
        """Tell how far the wave is."""
        self.shares[number] = max(share, self.shares[number])  # an attacker's surrogates come first
        self.tell(
            ModelTraining(
                model=f"{len(self.shares)} {self.words}",
                done=round(1000 * sum(self.shares)),
                total=1000 * len(self.shares),
                note=f"{self.finished} done",
            )
        )
