"""What defenses that mend a trained model share: what they need, and the model under repair."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from casemate.errors import UsageError
from casemate.identity import key
from casemate.models.hyperparameters import number
from casemate.registry import name_of
from casemate.threats import Stage
from casemate.training.defended import Phase, Repaired
from casemate.training.loop import state

if TYPE_CHECKING:
    from torch import Tensor, nn

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = [
    "FEWEST",
    "Mender",
    "Mending",
    "clean_samples",
    "floats",
    "no_hidden_layer",
    "some_clean",
]

FEWEST = 2
"""Fewest clean samples: one has no statistics."""


def floats(
    defense: object, *names: str, low: float = 0, high: float = float("inf"), open_low: bool = False
) -> None:
    """Keep these parameters of a frozen dataclass as floats.

    Raises:
        UsageError: If one is no number from `low` to `high`.
    """
    for name in names:
        value = number(name, getattr(defense, name), low=low, high=high, open_low=open_low)
        object.__setattr__(defense, name, value)


class Mender:
    """What all defenses share that mend a trained model: when they act, and on what."""

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "after"
    needs_clean: ClassVar[bool] = True

    def check(
        self,
        dataset: Dataset,  # noqa: ARG002 - it was trained on already
        lab: Lab,  # noqa: ARG002 - any model can be mended, unless a defense says otherwise
        clean: Dataset | None = None,
    ) -> None:
        """Raise `UsageError` if there are too few clean samples; as `defended.Foresight.check`."""
        some_clean(name_of("defense", type(self)), clean)


def some_clean(name: str, clean: Dataset | None) -> Dataset:
    """Return the clean samples.

    Raises:
        UsageError: If there are none, or too few for statistics of a batch.
    """
    if clean is None or len(clean) == 0:
        raise UsageError(f"{name} needs clean samples; set training.clean to how many to hold out")
    if len(clean) < FEWEST:
        raise UsageError(
            f"{name} needs at least {FEWEST} clean samples, but training.clean holds out "
            f"{len(clean)}; set it to {FEWEST} or more"
        )
    return clean


def no_hidden_layer(name: str) -> UsageError:
    """Return the error of a defense that finds no layer but that of the scores."""
    return UsageError(
        f"{name} needs a hidden layer, but the network has none; choose another defense"
    )


def clean_samples(name: str, model: TrainedModel, clean: Dataset | None) -> Dataset:
    """Return the clean samples.

    Raises:
        UsageError: As `some_clean`, and if they do not fit the model.
    """
    clean = some_clean(name, clean)
    if clean.domain != model.domain or len(clean.classes) != len(model.classes):
        raise UsageError(
            f"{clean.name} holds inputs of shape {clean.domain.shape} in {len(clean.classes)} "
            f"classes, but the model takes {model.domain.shape} and knows {len(model.classes)}; "
            "give clean samples of the model's domain and classes"
        )
    return clean


@dataclass(kw_only=True, eq=False)
class Mending:
    """One model under repair.

    Attributes:
        name: Of the defense.
        defense: Its parameters.
        model: As it was trained; left as it is.
        rng: Of the repair.
        lab: Says where.
        clean: Samples known to be clean.
        target: The model that is changed, behind its preprocessing; in evaluation mode, with
            parameters that require gradients.
    """

    name: str
    defense: Any
    model: TrainedModel
    rng: Stream
    lab: Lab
    clean: Dataset
    target: TorchTarget = field(init=False)

    def __post_init__(self) -> None:
        self.target = self.model.target(self.lab.device)
        self.target.module.requires_grad_(requires_grad=True)

    @property
    def module(self) -> nn.Module:
        """The network that is changed."""
        return self.target.module

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.target.device

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return clean inputs and labels, drawn with replacement."""
        chosen = torch.randint(len(self.clean), (size,), generator=generator)
        x = self.clean.batch(chosen, device=self.device)
        return x, self.clean.targets[chosen].to(self.device)

    def done(self, **found: Any) -> Repaired:
        """Return the model with the network's weights as they are now.

        Args:
            found: Of `Repaired`.

        Raises:
            UsageError: If a weight is not finite.
        """
        weights = state(self.module)
        if not all(bool(w.isfinite().all()) for w in weights.values()):
            raise UsageError(f"{self.name} diverged: a weight is not finite; lower learning_rate")
        digest = key(
            "mended model",
            {"name": self.name, "revision": self.defense.revision, "settings": self.defense},
            self.model.digest,
            self.clean.digest,
            self.rng.key,
            {"device": self.device.type},
        )
        return Repaired(model=replace(self.model, weights=weights, digest=digest), **found)
