"""What training tells while it runs, and what it leaves behind of each epoch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Epoch", "Progress"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One finished pass over the data.

    Attributes:
        loss: Mean training loss, as it was minimized.
        accuracy: Share of training samples predicted right, as they were shown: augmented and, in
            adversarial training, attacked.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands; sent a few times a second and at the end of each epoch.

    Attributes:
        epoch: The epoch under way, from 1.
        epochs: Epochs in all.
        step: Steps done.
        steps: Steps in all.
        loss: Mean training loss of this epoch so far.
        accuracy: Training accuracy of this epoch so far.
        seconds: Since training began.
        seconds_left: Until it ends, at the pace so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    seconds: float
    seconds_left: float
