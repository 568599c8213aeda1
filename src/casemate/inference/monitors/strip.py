"""STRIP: a trigger survives when another picture is laid over it (arXiv 1902.06531)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import UsageError
from casemate.guard import guarded
from casemate.models.hyperparameters import number, whole
from casemate.threats import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import TorchTarget

__all__ = ["STRIP", "entropy"]

_BATCH = 512  # blends that the model gets at a time


@dataclass(frozen=True, kw_only=True)
class STRIP:
    """Suspects inputs whose prediction stays the same when clean inputs are laid over them.

    Gao, Xu, Wang, Chen, Ranasinghe and Nepal, "STRIP: a defence against trojan attacks on deep
    neural networks", ACSAC 2019 (arXiv 1902.06531, section 4, equations 2 to 4): the mean entropy,
    in bits, of the predictions for `overlays` blends of the input and a clean one. Low entropy is
    suspicious, so the score is its negative.

    A blend is x + weight * overlay, both counted from the domain's lower bound, clipped to the
    domain; the paper's images are added with the weight 1. Ours: the overlays are drawn once, when
    the monitor is fitted, and are the same for all inputs. The paper fits a normal distribution to
    clean entropies to get its threshold; see `monitoring.threshold` for ours.

    Attributes:
        overlays: Clean inputs laid over each input, at least 1; the paper's 100.
        weight: Of the overlay, above 0 and up to 1.
        false_alarms: Share of clean inputs that may raise alarm, above 0 and up to 0.5.
    """

    overlays: int = 100
    weight: float = 1.0
    false_alarms: float = 0.01

    stage: ClassVar[Stage] = Stage.INFERENCE
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        whole("strip.overlays", self.overlays, low=1)
        number("strip.weight", self.weight, low=0, high=1, open_low=True)
        number("strip.false_alarms", self.false_alarms, low=0, high=0.5, open_low=True)

    def fewest(self, clean: Dataset) -> int:  # noqa: ARG002 - whatever they are
        """Return how many clean samples it has to be fitted on."""
        return self.overlays

    def fit(self, target: TorchTarget, clean: Dataset, rng: Stream) -> _Overlaid:
        """Return the monitor with overlays drawn from clean samples without replacement.

        Raises:
            UsageError: If there are fewer samples, or the model gives labels only.
        """
        if len(clean) < self.overlays:
            raise UsageError(
                f"strip needs {self.overlays} clean samples, but {clean.name} has {len(clean)}; "
                "lower strip.overlays"
            )
        if target.outputs == "labels":
            raise UsageError("strip needs probabilities, but the model gives labels only")
        chosen = torch.randperm(len(clean), generator=rng.torch())[: self.overlays]
        laid = clean.batch(chosen, device=target.device).sub_(target.domain.low).mul_(self.weight)
        return _Overlaid(target=target, overlays=laid)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Overlaid:
    """STRIP for one model.

    Attributes:
        target: The model.
        overlays: (n, *shape), what is added to an input.
    """

    target: TorchTarget
    overlays: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """Return the negative mean entropy in bits, from -log2(classes) to 0."""
        target, overlays = self.target, self.overlays
        domain, found = target.domain, []
        inputs = max(_BATCH // len(overlays), 1)
        with guarded(target.modules, [target.device]), torch.no_grad():
            for begin in range(0, len(x), inputs):
                some = x[begin : begin + inputs].to(target.device)
                sums = torch.zeros(len(some), device=target.device)
                for first in range(0, len(overlays), _BATCH):
                    laid = overlays[first : first + _BATCH]
                    blends = (some[:, None] + laid).clamp_(domain.low, domain.high).flatten(0, 1)
                    predicted = target.probabilities(target.scores(blends))
                    sums += entropy(predicted).view(len(some), -1).sum(1)
                found.append(-sums.cpu() / len(overlays))
        return torch.cat(found) if found else torch.zeros(0)


def entropy(probabilities: Tensor) -> Tensor:
    """Return (b,) entropies in bits of (b, classes) probabilities; 0 log 0 is 0."""
    nats: Tensor = torch.special.entr(probabilities).sum(1)
    return nats / math.log(2)
