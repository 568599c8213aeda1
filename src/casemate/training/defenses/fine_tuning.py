"""Fine-tuning: train on, with clean samples alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from casemate.training.defenses.further_training import FurtherTraining
from casemate.training.defenses.mending import Mending, clean_samples

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Repaired
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["FineTuning"]


@dataclass(frozen=True, kw_only=True)
class FineTuning(FurtherTraining):
    """Training on clean samples from the model's weights, so that the backdoor is forgotten.

    The baseline of Wu et al., "BackdoorBench: a comprehensive benchmark of backdoor learning",
    NeurIPS 2022 Datasets and Benchmarks (arXiv 2206.12654), with its parameters: SGD with momentum
    and a cosine schedule. Ours: the momentum is Nesterov's, weight decay spares biases and
    normalization, and augmentation, label smoothing and adversarial training are those of the
    model's recipe. Batch normalization is in training mode.

    Attributes:
        epochs: Passes over the clean samples, at least 1.
        batch_size: Samples a step, at least 2.
        learning_rate: Of the first step, above 0; it falls to 0 along a cosine.
        momentum: Of SGD, from 0 to 0.9999.
        weight_decay: Per step and unit of learning rate, at least 0.
    """

    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ()

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model fine-tuned."""
        known = clean_samples("fine-tuning", model, clean)
        mending = Mending(
            name="fine-tuning", defense=self, model=model, rng=rng, lab=lab, clean=known
        )
        self.train_on(mending, known)
        return mending.done()
