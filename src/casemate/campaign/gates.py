"""The one place where a campaign calls the gates: data, training, inference.

What is loaded or trained once stays at hand for all trials that share it.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from casemate.campaign.exposures import exposure_of
from casemate.campaign.facts import with_facts
from casemate.campaign.hardware_gate import passes, strike_trial
from casemate.campaign.orders import Orders
from casemate.campaign.origins import OriginCache, origin_name
from casemate.campaign.provenance import origin
from casemate.campaign.victims import Victims
from casemate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from casemate.campaign.events import Listener
    from casemate.campaign.plugins import Plugin
    from casemate.campaign.sections import Goal, ModelChoice
    from casemate.campaign.store import Store
    from casemate.campaign.trials import Trial
    from casemate.data.dataset import Dataset, Split
    from casemate.evidence import Evidence
    from casemate.inference.evaluate import Cost, Setting
    from casemate.inference.exposure import Guarded
    from casemate.target import Target
    from casemate.training.passes import Passes
    from casemate.training.stored import StoredModel

__all__ = ["Gates"]

_REFERENCES = 32
"""Models that others are held against whose answers stay at hand."""


class Gates:
    """Data, models and attacks for the trials of one campaign.

    Args:
        base_dir: What relative paths of a user's model are relative to.
        device: Where models run: "cpu", "cuda", "cuda:1", "mps".
        batch_size: Samples at a time; of no consequence for the results.
    """

    def __init__(self, *, base_dir: Path, device: str = "cpu", batch_size: int = 128) -> None:
        self.base_dir = base_dir
        self.device = _device(device)
        self.batch_size = batch_size
        self._data: dict[tuple[str, Split], Dataset] = {}
        self._samples: dict[tuple[object, ...], Dataset] = {}
        self._given: dict[tuple[str, str], Target] = {}
        self._targets, self._references = _Last(self.device), _Last(self.device)
        self._controls = _Last(self.device)
        self._before: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._model_origin: dict[str, Any] | None = None
        self._examples: OriginCache | None = None
        self.orders = Orders(self.data, device=self.device, base_dir=base_dir)
        self.victims = Victims(self.orders, origin=lambda: self.origin)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Where that comes from which is computed now, as `provenance.origin`."""
        return {**origin(self.device), "batch_size": self.batch_size}

    # -- data -----------------------------------------------------------------------------------

    def data(self, source: Plugin, split: Split) -> Dataset:
        """Return one split of a data source.

        Raises:
            UsageError: If it is not to be had or not well formed.
        """
        name = (source.digest, split)
        if name not in self._data:
            self._data[name] = source.value.load(split)
        return self._data[name]

    def data_digests(self, trial: Trial) -> dict[str, str]:
        """Return the hash of each split that a trial uses, by the split's name."""
        splits: tuple[Split, ...] = ("test",) if not trial.model.trained_here else ("train", "test")
        return {split: self.data(trial.data, split).digest for split in splits}

    def samples(self, trial: Trial) -> Dataset:
        """Return the samples of the test split that a trial attacks."""
        from casemate.data.splits import of_class, stratified_sample  # noqa: PLC0415 - imports torch

        options = trial.options
        name = (trial.data.digest, trial.goal.from_, options.samples, options.seed)
        if name not in self._samples:
            samples = self.data(trial.data, "test")
            if trial.goal.from_ is not None:
                samples = of_class(samples, trial.goal.from_, "from")
            if options.samples is not None:
                samples = stratified_sample(samples, options.samples, options.seed)
            self._samples[name] = samples
        return self._samples[name]

    def labels(self, trial: Trial) -> tuple[int | None, int | None]:
        """Return the labels that a trial's goal names.

        Raises:
            UsageError: If the data has no such class.
        """
        test = self.data(trial.data, "test")
        goal: Goal = trial.goal
        start = None if goal.from_ is None else test.class_index(goal.from_, "from")
        return start, None if goal.to is None else test.class_index(goal.to, "to")

    def borrowed(self) -> dict[str, Any]:
        """Return where that comes from which the last trial found in the store.

        "model" and "examples", each as `provenance.origin`, where another trial or run made them.
        """
        found = {
            "model": self._model_origin,
            "examples": self._examples and self._examples.read,
        }
        return {name: made for name, made in found.items() if made is not None}

    # -- models ---------------------------------------------------------------------------------

    def model_key(self, trial: Trial) -> str:
        """Return the digest of the trial's model, without training it."""
        if not trial.model.trained_here:
            return self._loaded(trial.model, self.data(trial.data, "test")).digest
        return self.orders.victim_key(trial)

    def subject_key(self, trial: Trial) -> str:
        """Return the digest of the model that a report speaks of: without attack and defense."""
        if not trial.model.trained_here:
            return self.model_key(trial)
        return self.orders.reference_key(trial)

    def kind_of_model(self, trial: Trial) -> str:
        """Return what models share that are equally fast."""
        return f"{trial.model.digest} {trial.data.digest}"

    def trainings(self, trial: Trial, store: Store | None) -> list[str]:
        """Return names of the models that have to be trained for a trial."""
        if not trial.model.trained_here:
            return []
        needed = self.orders.needed(trial)
        return [name for name in needed if store is None or not store.has(name)]

    def labors(self, trial: Trial, store: Store | None) -> dict[str, tuple[Passes, ...]]:
        """Return what attack and defense compute besides, by the name of a model that is made."""
        if not trial.model.trained_here:
            return {}
        found = self.orders.labors(trial)
        return {name: p for name, p in found.items() if store is None or not store.has(name)}

    def given(self, trial: Trial) -> Target | None:
        """Return the user's model, or None if the trial's model is trained here."""
        if trial.model.trained_here:
            return None
        return self._loaded(trial.model, self.data(trial.data, "test"))

    def target(self, trial: Trial, store: Store, tell: Listener) -> Target:
        """Return the trial's model: loaded, from the store, or trained now and kept there."""
        given = self.given(trial)
        if given is not None:
            self._model_origin = None
            return given
        name = self.model_key(trial)
        self._model_origin = store.value(origin_name(name))
        return self._targets.of(name, lambda: self.victims.victim(trial, store, tell))

    def subject(self, trial: Trial, store: Store, tell: Listener) -> Target:
        """Return the model that a report speaks of: without attack and defense at training."""
        name = self.subject_key(trial)
        if name == self.model_key(trial):
            return self.target(trial, store, tell)
        return self._references.of(name, lambda: self.victims.reference(trial, store, tell))

    def control(self, trial: Trial, store: Store, tell: Listener) -> Target | None:
        """Return a clean model of another seed, where the trial ends with the trained model."""
        if not trial.exposed:
            return None
        name = self.orders.control_key(trial)
        return self._controls.of(name, lambda: self.victims.control(trial, store, tell))

    def _loaded(self, model: ModelChoice, test: Dataset) -> Target:
        from casemate.models.load import load_target  # noqa: PLC0415 - imports torch

        name = (model.digest, test.digest)
        if name not in self._given:
            assert model.given is not None  # noqa: S101 - the caller asked
            self._given[name] = load_target(
                model.given,
                domain=test.domain,
                classes=test.classes,
                base_dir=self.base_dir,
                device=self.device,
            )
        return self._given[name]

    # -- inference ------------------------------------------------------------------------------

    def setting(self, trial: Trial) -> Setting:
        """Return what decides the evidence of an attack at inference besides model and data."""
        from casemate.inference.evaluate import Attacker, Setting  # noqa: PLC0415 - imports torch

        assert trial.attack is not None  # noqa: S101 - the caller asked
        return Setting(
            attack=trial.attack.value,
            goal=self.labels(trial)[1],
            defense=None if trial.defense is None else trial.defense.value,
            attacker=Attacker(trial.options.attacker),
            early_stop=trial.options.early_stop,
            round=trial.options.round,
            queries=trial.options.queries,
            seed=trial.options.seed,
        )

    def cost(self, trial: Trial, n: int) -> Cost:
        """Return the most samples that a trial of n samples sends through its model."""
        from casemate.inference.evaluate import Cost, cost  # noqa: PLC0415 - imports torch

        if trial.hardware is not None:
            return Cost(forward=passes(trial.hardware, n), backward=0)
        if trial.attack is None:  # model, reference and control, with the trigger and without
            return Cost(forward=6 * n, backward=0)
        return cost(self.setting(trial), n)

    def evaluate(
        self, trial: Trial, store: Store, tell: Listener, progress: Any, *, again: bool = False
    ) -> Evidence:
        """Run a trial and return its evidence.

        Args:
            trial: The trial.
            store: Where models and attacked samples may lie that other trials made.
            tell: Told what happens to the model.
            progress: Called with jobs done and jobs in all.
            again: Attack the samples again, even if that has been done.
        """
        if trial.hardware is not None:
            self._examples = None
            return strike_trial(trial, self, store, tell, progress)
        if trial.attack is None:
            return self._expose(trial, store, tell, progress)
        from casemate.inference.evaluate import evaluate  # noqa: PLC0415 - imports torch

        self._examples = OriginCache(store, self.origin)
        return evaluate(
            self.setting(trial),
            self.target(trial, store, tell),
            self.samples(trial),
            batch_size=self.batch_size,
            progress=progress,
            cache=None if again else self._examples,
        )

    def _expose(self, trial: Trial, store: Store, tell: Listener, progress: Any) -> Evidence:
        """Hold the trial's model against one trained without attack and defense and its control."""
        from casemate.inference.exposure import expose  # noqa: PLC0415 - imports torch

        self._examples = None
        poisoned = self.victims.poisoned(trial, store, tell)
        exposure, samples = exposure_of(
            poisoned,
            self.samples(trial),
            known=self.data(trial.data, "test"),
            on_grid=trial.options.round,
        )
        model, reference = self.target(trial, store, tell), self.subject(trial, store, tell)
        control = self.control(trial, store, tell)
        assert control is not None  # noqa: S101 - the caller asked
        if trial.defense is not None:
            front = trial.defense.value
            model, reference, control = (t.behind(front) for t in (model, reference, control))
        evidence = expose(
            exposure,
            model,
            reference,
            samples,
            control=control,
            before=self._answers(trial, reference, samples),
            control_before=self._answers(trial, control, samples),
            guarded_by=self.guarded(trial),
            seed=trial.options.seed,
            batch_size=self.batch_size,
            progress=progress,
        )
        return with_facts(evidence, self.victims.facts(trial, store), target=exposure.leads_to)

    def _answers(self, trial: Trial, clean: Target, samples: Dataset) -> Tensor | None:
        """Return what a clean model answers to samples, or None where a defense may draw at random.

        Trials of one reference share it, and its control's.
        """
        from casemate.inference.exposure import scores  # noqa: PLC0415 - imports torch

        if trial.defense is not None:
            return None
        name = (clean.digest, samples.digest)
        if name not in self._before:
            if len(self._before) >= _REFERENCES:
                self._before.popitem(last=False)
            self._before[name] = scores(clean, samples, batch_size=self.batch_size)
        return self._before[name]

    def guarded(self, trial: Trial) -> Guarded | None:
        """Return the trial's monitor with the samples that were held out for it."""
        from casemate.inference.exposure import Guarded  # noqa: PLC0415 - imports torch

        clean = self.orders.halves(trial)[1]
        if trial.monitor is None or clean is None:
            return None
        return Guarded(monitor=trial.monitor.value, clean=clean)


class _Last:
    """The last model that was asked for: all of a campaign's may not fit into memory."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._held: tuple[str, Target] | None = None

    def of(self, name: str, make: Callable[[], StoredModel]) -> Target:
        """Return the model of a name, made if it is not the last one."""
        if self._held is None or self._held[0] != name:
            self._held = None
            self._held = (name, make().target(self._device))
        return self._held[1]


def _device(name: str) -> str:
    """Return the device, if there is one of that name."""
    import torch  # noqa: PLC0415 - only who runs a campaign needs it

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        reason = "torch knows no such device" if "device type" in reason else reason
        raise UsageError(
            f'the device "{name}" cannot be used ({reason}); use cpu, cuda, cuda:1 or mps'
        ) from error
    return name
