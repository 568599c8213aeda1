"""What defenses during training share: the models that they train, and their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from casemate.identity import key
from casemate.registry import name_of
from casemate.training.defended import Repaired
from casemate.training.loop import train
from casemate.training.trained import training_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from casemate.data.dataset import Dataset
    from casemate.training.lab import Lab
    from casemate.training.loop import Loss

__all__ = ["digest_of", "trained_otherwise"]


def trained_otherwise(
    defense: Any,
    dataset: Dataset,
    lab: Lab,
    *,
    loss: Loss | None = None,
    after: Callable[[nn.Module], None] | None = None,
) -> Repaired:
    """Return the model of a lab's recipe but for a loss, or for what follows each step.

    Args:
        defense: As for `digest_of`.
        dataset: What it trains on.
        lab: Whose seed the model has; it counts the training.
        loss: As for `train`.
        after: As for `train`.
    """
    model = train(
        lab.architecture,
        lab.recipe,
        dataset,
        seed=lab.seed,
        device=lab.device,
        progress=lab.progress,
        loss=loss,
        after=after,
    )
    lab.count(1, len(dataset) * lab.recipe.epochs)
    return Repaired(model=replace(model, digest=digest_of(defense, dataset, lab)))


def digest_of(defense: Any, dataset: Dataset, lab: Lab, *more: Any) -> str:
    """Return the digest of the model that a defense trains on a data set instead of plain training.

    Args:
        defense: Its name, revision and parameters count.
        dataset: What it trains on.
        lab: Whose architecture, recipe, seed and device count.
        more: What else decides the weights.
    """
    return key(
        "defended training",
        {
            "name": name_of("defense", type(defense)),
            "revision": defense.revision,
            "settings": defense,
        },
        training_key(lab.architecture, lab.recipe, dataset, seed=lab.seed, device=lab.device),
        *more,
    )
