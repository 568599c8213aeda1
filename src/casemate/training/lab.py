"""`Lab`: where an attacker or a defender trains models of its own, every one of them counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from casemate.identity import key
from casemate.training import modelfile
from casemate.training.forgetting import Forgetting
from casemate.training.loop import train
from casemate.training.trained import TrainedModel, training_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture
    from casemate.training.progress import Progress
    from casemate.training.recipe import Recipe

__all__ = ["Lab", "Shelf"]

_APART = 10_000_000
"""Between the seeds of a lab's models; parties' seeds are a million apart."""


class Shelf(Protocol):
    """Where files lie that are made once and used again."""

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or None."""

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Keep what `write` writes to the path that it is given; return where it lies now."""


@dataclass(kw_only=True, eq=False)
class Lab:
    """Means to train models that are not the victim.

    Its seed is never the victim's, so whoever trains here learns nothing of the victim's weights.

    Attributes:
        architecture: Of the models, unless one is asked for.
        recipe: How they are trained, unless one is asked for.
        seed: What all of their seeds come from.
        device: Where they are trained.
        known: Inputs that an attacker knows the victim will meet, with their true labels; None
            if it knows none.
        shelf: Where models and tensors may lie already, or None.
        progress: Told where a training stands.
        models: Models asked for so far.
        samples: Samples that went through their training, epochs counted.
    """

    architecture: Architecture
    recipe: Recipe
    seed: int = 1_000_000
    device: torch.device | str = "cpu"
    known: Dataset | None = None
    shelf: Shelf | None = None
    progress: Callable[[Progress], None] | None = None
    models: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)

    def seed_of(self, number: int) -> int:
        """Return the seed of a model by its number.

        Far from one another: were they neighbors, labs of trials with neighboring seeds would share
        models, and the trials would not be independent.
        """
        return self.seed + _APART * number

    def trained(
        self,
        data: Dataset,
        *,
        number: int = 0,
        architecture: Architecture | None = None,
        recipe: Recipe | None = None,
    ) -> TrainedModel:
        """Return a model trained on a data set.

        Args:
            data: To train on.
            number: Tells several models on the same data apart.
            architecture: The lab's if omitted.
            recipe: The lab's if omitted.

        Raises:
            UsageError: As `train`.
        """
        architecture, recipe = architecture or self.architecture, recipe or self.recipe
        seed = self.seed_of(number)
        digest = training_key(architecture, recipe, data, seed=seed, device=self.device)

        self.models += 1
        self.samples += len(data) * recipe.epochs
        path = self.shelf.find(digest) if self.shelf is not None else None
        if path is None:
            model = train(
                architecture, recipe, data, seed=seed, device=self.device, progress=self.progress
            )
            if self.shelf is None:
                return model
            path = self.shelf.keep(digest, model.save)
        return TrainedModel.load(path)

    def forgetting(
        self, data: Dataset, *, number: int = 0, architecture: Architecture | None = None
    ) -> Tensor:
        """Return how often a training forgets each sample of a data set: (n,) int64 on the CPU.

        Args:
            data: To train on.
            number: Of the training, as for `trained`.
            architecture: The lab's if omitted.
        """
        architecture, recipe = architecture or self.architecture, self.recipe
        seed = self.seed_of(number)
        digest = training_key(architecture, recipe, data, seed=seed, device=self.device)

        def make() -> Tensor:
            events = Forgetting(len(data))
            train(
                architecture,
                recipe,
                data,
                seed=seed,
                device=self.device,
                progress=self.progress,
                seen=events,
            )
            return events.events

        self.count(1, len(data) * recipe.epochs)
        return self.computed(("forgetting events", digest), make)

    def computed(self, how: Any, make: Callable[[], Tensor]) -> Tensor:
        """Return a tensor that was computed before, or is now.

        Args:
            how: Everything that decides it; anything `identity.key` takes.
            make: Computes it, (*shape), on any device.

        Returns:
            The tensor on the CPU.
        """
        name = key("tensor of a lab", how, self.seed, str(self.device))
        path = self.shelf.find(name) if self.shelf is not None else None
        if path is not None:
            return modelfile.read(path)[0]["tensor"]
        made = make().cpu().contiguous()
        if self.shelf is not None:
            self.shelf.keep(name, lambda path: modelfile.write(path, {"tensor": made}, {}))
        return made

    def count(self, models: int, samples: int) -> None:
        """Count models that were not trained by `trained`, and samples of their training."""
        self.models += models
        self.samples += samples
