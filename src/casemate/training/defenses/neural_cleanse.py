"""Neural Cleanse: rebuild each class's smallest trigger; unlearn the one that stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED
from casemate.models.hyperparameters import number, whole
from casemate.training.defenses.further_training import FurtherTraining
from casemate.training.defenses.mending import Mender, Mending, clean_samples, floats
from casemate.training.defenses.reversed_triggers import Reversal, Triggers
from casemate.training.loop import steady
from casemate.training.passes import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Repaired
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["NeuralCleanse", "anomaly_indices"]

_CONSISTENCY = 1.4826  # makes the median absolute deviation that of a normal distribution
_FEW = 4


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Mender):
    """The class that a much smaller trigger reaches than the others is the backdoor's target.

    Wang, Yao, Shan, Li, Viswanath, Zheng and Zhao, "Neural Cleanse: identifying and mitigating
    backdoor attacks in neural networks", IEEE S&P 2019 (doi 10.1109/SP.2019.00031). For each class
    a mask and a pattern are optimized (see `Reversal`); a class is flagged if its mask's L1 norm is
    below the median by more than `threshold` in units of the scaled median absolute deviation. The
    model then learns, for an epoch, clean samples with their true labels, some of which show the
    trigger. Without a flagged class it stays as it is.

    Ours: a step of the schedule takes fewer mini-batches than the authors' code (31), and there
    are fewer steps (1,000 there, with early stopping), because all classes are optimized together;
    where several classes are flagged, their triggers share the samples; fine-tuning is by SGD.
    With fewer than 4 classes the median cannot single one out, and the notes say so.

    Attributes:
        steps: Steps of the cost's schedule, at least 1.
        batches: Mini-batches a step, at least 1.
        batch_size: Clean samples a mini-batch, at least 1; all classes are led away from them.
        reversal_rate: Learning rate of masks and patterns (Adam), above 0.
        initial_cost: First weight of the mask's L1 norm (in pixels), above 0.
        multiplier: What the cost is multiplied by on success; on failure it is divided by its
            power of 1.5. Above 1.
        success: Share of samples that a trigger must lead to its class, above 0 and up to 1.
        patience: Steps in a row before the cost changes, at least 1; a class stops after five
            times as many without a smaller mask.
        threshold: Anomaly index above which a class is flagged, at least 0.
        share: Share of the clean samples that show the trigger in unlearning, above 0 and up to 1.
        epochs: Of unlearning, at least 1.
        tuning_batch_size: Samples a step of unlearning, at least 2.
        learning_rate: Of its first step, above 0; it falls to 0 along a cosine.
    """

    steps: int = 100
    batches: int = 10
    batch_size: int = 32
    reversal_rate: float = 0.1
    initial_cost: float = 1e-3
    multiplier: float = 2.0
    success: float = 0.99
    patience: int = 5
    threshold: float = 2.0
    share: float = 0.2
    epochs: int = 1
    tuning_batch_size: int = 32
    learning_rate: float = 0.01

    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = (FLAGGED, NAMED, FALSE_FLAG)

    def __post_init__(self) -> None:
        for name in ("steps", "batches", "batch_size", "patience", "epochs"):
            whole(name, getattr(self, name), low=1)
        whole("tuning_batch_size", self.tuning_batch_size, low=2)
        floats(self, "reversal_rate", "initial_cost", "learning_rate", open_low=True)
        floats(self, "success", "share", high=1, open_low=True)
        floats(self, "threshold")
        multiplier = number("multiplier", self.multiplier, low=1, open_low=True)
        object.__setattr__(self, "multiplier", multiplier)

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: a trigger for each class, and unlearning."""
        shown = self.steps * self.batches * self.batch_size * len(dataset.classes)
        return (Passes(samples=shown + self.epochs * len(clean or ())),)

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model after unlearning what stands out, if anything does."""
        known = clean_samples("neural-cleanse", model, clean)
        mending = Mending(
            name="neural-cleanse", defense=self, model=model, rng=rng, lab=lab, clean=known
        )
        with steady(mending.device, rng.key >> 1):
            triggers = self.triggers(mending)
        norms = triggers.norms
        indices = anomaly_indices(norms)
        order = norms.argsort(stable=True).tolist()
        flagged = [c for c in order if float(indices[c]) > self.threshold]
        if flagged:
            self._unlearn(mending, triggers, flagged)
        notes: dict[str, Any] = {
            "flagged": flagged,
            "norms": [round(v, 4) for v in norms.tolist()],
            "success": [round(v, 4) for v in triggers.success.tolist()],
        }
        if len(norms) < _FEW:
            notes["warning"] = (
                f"with {len(norms)} classes the median deviation cannot tell which one stands out"
            )
        return mending.done(
            found=flagged[0] if flagged else None,
            score=float(indices[order[0]]),
            notes=notes,
        )

    def triggers(self, mending: Mending) -> Triggers:
        """Return the smallest trigger found for each class."""
        return Reversal(
            steps=self.steps,
            batches=self.batches,
            batch_size=self.batch_size,
            rate=self.reversal_rate,
            initial_cost=self.initial_cost,
            multiplier=self.multiplier,
            success=self.success,
            patience=self.patience,
        )(mending.target, mending.clean, mending.rng.child("reversal"))

    def _unlearn(self, mending: Mending, triggers: Triggers, flagged: list[int]) -> None:
        clean = mending.clean
        count = max(1, round(self.share * len(clean)))
        order = torch.randperm(len(clean), generator=mending.rng.child("shown").torch())
        chosen = order[:count]
        inputs = clean.batch(chosen)
        for i, label in enumerate(flagged):
            inputs[i :: len(flagged)] = triggers.show(inputs[i :: len(flagged)], label)
        shown = clean.replaced(chosen, inputs=inputs, how="neural-cleanse")
        FurtherTraining(
            epochs=self.epochs,
            batch_size=self.tuning_batch_size,
            learning_rate=self.learning_rate,
        ).train_on(mending, shown)


def anomaly_indices(norms: Tensor) -> Tensor:
    """Return how far each norm lies below the median, in scaled median absolute deviations.

    The index of norms at or above the median is 0. Where most norms are the same, so that their
    deviation is 0, any smaller one is infinitely far.

    Args:
        norms: (classes,) float.

    Returns:
        (classes,) float64.
    """
    values = norms.double()
    center = values.quantile(0.5)
    below = (center - values).clamp(min=0)
    scale = _CONSISTENCY * (center - values).abs().quantile(0.5)
    return torch.where(below > 0, below / scale, below)
