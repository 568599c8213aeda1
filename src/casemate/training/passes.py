"""`Passes`: what attacks and defenses compute besides training models, so that a plan counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from casemate.data.dataset import Dataset
    from casemate.training.lab import Lab

__all__ = ["DOUBLE", "FORWARD", "Laborious", "Passes"]

DOUBLE = 3.0
"""Passes that a gradient of a gradient is worth: forward, back, and back through both."""

FORWARD = 1 / 3
"""Passes that the way forward alone is worth."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Samples that go forward and back through a network.

    Attributes:
        samples: How many, each as often as it goes; at most, where it depends on what is found.
        network: Makes the network, from `arguments`; None for the model that the trial is about.
        arguments: What `network` is called with, hashable.
    """

    samples: float
    network: Callable[..., nn.Module] | None = None
    arguments: tuple[int, ...] = ()


class Laborious(Protocol):
    """What attacks and defenses at the training gate may have besides, for estimates."""

    def passes(
        self, dataset: Dataset, lab: Lab, clean: Dataset | None = None
    ) -> tuple[Passes, ...]:
        """Return what acting computes besides the models that `trainings` counts.

        Args:
            dataset: The training set as nobody touched it.
            lab: Says which model is trained, and how; left as it is.
            clean: Samples known to be clean, if there are any.
        """
