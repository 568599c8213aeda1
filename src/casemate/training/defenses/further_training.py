"""What defenses that train a model further share: SGD with a cosine schedule, from its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casemate.models.hyperparameters import whole
from casemate.training.defenses.mending import Mender, floats
from casemate.training.loop import tune
from casemate.training.passes import Passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.data.dataset import Dataset
    from casemate.training.defenses.mending import Mending
    from casemate.training.lab import Lab

__all__ = ["FurtherTraining"]


@dataclass(frozen=True, kw_only=True)
class FurtherTraining(Mender):
    """Training on from the model's weights, with the parameters of BackdoorBench.

    Wu et al., "BackdoorBench: a comprehensive benchmark of backdoor learning", NeurIPS 2022
    Datasets and Benchmarks (arXiv 2206.12654).

    Attributes:
        epochs: Passes over the samples, at least 1.
        batch_size: Samples a step, at least 2.
        learning_rate: Of the first step, above 0; it falls to 0 along a cosine.
        momentum: Of SGD, from 0 to 0.9999.
        weight_decay: Per step and unit of learning rate, at least 0.
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, low=1, high=100_000)
        whole("batch_size", self.batch_size, low=2)
        floats(self, "learning_rate", open_low=True)
        floats(self, "momentum", high=0.9999)
        floats(self, "weight_decay")

    def passes(
        self,
        dataset: Dataset,  # noqa: ARG002 - it was trained on already
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: further epochs."""
        return (Passes(samples=self.epochs * len(clean or ())),)

    def train_on(
        self, mending: Mending, data: Dataset, *, after: Callable[[], None] | None = None
    ) -> None:
        """Train the network further: what is not said here is as in the model's recipe.

        Args:
            mending: Holds the network, which is in evaluation mode again at the end.
            data: To train on.
            after: Called after each step.

        Raises:
            UsageError: If the loss stops being finite.
        """
        recipe = replace(
            mending.model.recipe,
            optimizer="sgd",
            schedule="cosine",
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        tune(
            mending.module,
            recipe,
            data,
            mending.model.preprocessing,
            seed=mending.rng.child("fine-tuning").key,
            progress=mending.lab.progress,
            after=after,
        )
        mending.module.eval()
