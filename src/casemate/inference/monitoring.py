"""What monitors at run time are: they say how suspicious an input is, and when to raise alarm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Protocol

from casemate.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.threats import Stage

__all__ = ["Fitted", "Monitor", "fewest_scores", "threshold"]


class Fitted(Protocol):
    """A monitor that knows its model."""

    def scores(self, x: Tensor) -> Tensor:
        """Return (b,) float32, on the CPU, how suspicious inputs are; higher is more so.

        A score depends on its own input alone; the model is left as it was.

        Args:
            x: (b, *shape) in the target's domain, on any device.
        """


class Monitor(Protocol):
    """A frozen dataclass whose fields are its parameters.

    Attributes:
        stage: `Stage.INFERENCE`.
        revision: Raised when the same parameters come to mean something else.
        fewest: A method that returns how many of some clean samples (`Dataset` to int) it has to be
            fitted on; may be left out where one will do.
    """

    stage: ClassVar[Stage]
    revision: ClassVar[int]

    @property
    def false_alarms(self) -> float:
        """Share of clean inputs that may raise alarm, between 0 and 1."""

    def fit(self, target: TorchTarget, clean: Dataset, rng: Stream) -> Fitted:
        """Return the monitor of one model.

        Args:
            target: The model that is watched.
            clean: Samples known to be clean, in the target's domain. Whoever sets the threshold on
                the same samples gets more alarms than asked for.
            rng: Of random choices.

        Raises:
            UsageError: If there are too few samples.
        """


def fewest_scores(false_alarms: float) -> int:
    """Return how many clean scores `threshold` needs for so few alarms.

    Raises:
        UsageError: If their share is not between 0 and 1.
    """
    if not 0 < false_alarms < 1:
        raise UsageError(f"false_alarms must be between 0 and 1, got {false_alarms}")
    return math.ceil(1 / false_alarms - 1e-9) - 1


def threshold(clean_scores: Tensor, false_alarms: float) -> float:
    """Return the score above which to raise alarm.

    An order statistic: of n clean scores the k-th largest, k = floor((n + 1) false_alarms). If a
    clean input is exchangeable with them, it scores higher with a probability of at most
    `false_alarms`, whatever the distribution (split conformal prediction: Vovk, Gammerman and
    Shafer, "Algorithmic learning in a random world", 2005).

    Args:
        clean_scores: (n,) of clean inputs that the monitor was not fitted on.
        false_alarms: Share of clean inputs that may raise alarm, between 0 and 1.

    Raises:
        UsageError: If there are too few scores for so few alarms, or one is not a number.
    """
    fewest = fewest_scores(false_alarms)
    if bool(clean_scores.isnan().any()):
        raise UsageError("a clean score is not a number; look into the model's outputs")
    allowed = math.floor((len(clean_scores) + 1) * false_alarms + 1e-9)  # 0.29 * 100 is 28.99...
    if allowed < 1:
        raise UsageError(
            f"{len(clean_scores)} clean scores are too few for a false-alarm rate of "
            f"{false_alarms:g}; give at least {fewest}"
        )
    return float(clean_scores.sort(descending=True).values[allowed - 1])
