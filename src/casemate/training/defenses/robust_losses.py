"""Losses that wrong labels pull less: generalized and symmetric cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import ParameterError
from casemate.models.hyperparameters import choice, number
from casemate.threats import Stage
from casemate.training.defenses.mending import floats
from casemate.training.defenses.own_training import trained_otherwise

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Repaired
    from casemate.training.lab import Lab

__all__ = ["RobustLoss"]

LossName = Literal["generalized", "symmetric"]


@dataclass(frozen=True, kw_only=True)
class RobustLoss:
    """Training with a loss that is bounded, or has a bounded part, so that noise weighs less.

    "generalized": Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural
    networks with noisy labels", NeurIPS 2018 (arXiv 1805.07836, equation 6), (1 - p_y^q) / q
    for the probability p_y of the label: cross-entropy as q falls to 0, half the mean absolute
    error at 1. Their truncated variant is not here.

    "symmetric": Wang, Ma, Chen, Luo, Yi and Bailey, "Symmetric cross entropy for robust learning
    with noisy labels", ICCV 2019 (arXiv 1908.06112), alpha times the cross-entropy plus beta times
    the reverse one, which is -A (1 - p_y) where the logarithm of 0 counts as A. The weights are the
    authors' for CIFAR-10; for MNIST their alpha is 0.01. Their code clamps labels at 1e-4 instead
    of giving A, which makes A about -9.2; -2 would make the reverse one the mean absolute error.

    The loss takes the place of the recipe's cross-entropy and of its label smoothing. Ours: where a
    recipe trains on adversarial examples, those still maximize cross-entropy.

    Attributes:
        loss: "generalized" or "symmetric".
        q: Of "generalized", above 0 and up to 1.
        alpha: Of "symmetric", weight of the cross-entropy, at least 0.
        beta: Of "symmetric", weight of the reverse cross-entropy, at least 0; not 0 with alpha.
        log_of_zero: Of "symmetric", what stands for the logarithm of 0 (A), below 0.
    """

    loss: LossName = "generalized"
    q: float = 0.7
    alpha: float = 0.1
    beta: float = 1.0
    log_of_zero: float = -4.0

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "during"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        choice("loss", self.loss, get_args(LossName))
        floats(self, "q", high=1, open_low=True)
        floats(self, "alpha", "beta")
        zero = number("log_of_zero", self.log_of_zero, low=-1e6, high=0)
        if zero == 0:
            raise ParameterError("log_of_zero", "must be below 0, got 0; -4 is the default")
        object.__setattr__(self, "log_of_zero", zero)
        if self.loss == "symmetric" and self.alpha == self.beta == 0:
            raise ParameterError(
                "alpha", "and beta are both 0, which is no loss; raise one of them"
            )

    def train(
        self,
        dataset: Dataset,
        rng: Stream,  # noqa: ARG002 - training draws from the seed of the lab
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> Repaired:
        """Return the model trained with the loss."""
        return trained_otherwise(self, dataset, lab, loss=self.of)

    def of(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of (b, classes) float32 scores and (b,) int64 labels."""
        own = F.log_softmax(scores, 1).gather(1, labels[:, None]).squeeze(1)
        if self.loss == "generalized":
            return ((1 - (self.q * own).exp()) / self.q).mean()
        reverse = -self.log_of_zero * (1 - own.exp())
        return (-self.alpha * own + self.beta * reverse).mean()
