"""Weight clipping: small weights in many places, so that a wrong bit in one moves little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from casemate.models.hyperparameters import number
from casemate.threats import Stage
from casemate.training.defenses.own_training import trained_otherwise

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Repaired
    from casemate.training.lab import Lab

__all__ = ["WeightClipping"]

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True, kw_only=True)
class WeightClipping:
    """Training under a bound on each weight, against bit errors and flips in the deployed model.

    Stutz, Chandramoorthy, Hein and Schiele, "Bit error robustness for energy-efficient DNN
    accelerators", MLSys 2021 (arXiv 2006.13977): after each step weights are cut to [-limit,
    limit]. In integers a wrong bit moves a weight by a share of the range, which is small then, and
    cross-entropy asks for large scores all the same, so that the network spreads them over many
    weights. They try several limits, 0.1 among them. Chitsaz, Mordido, David and Leduc-Primeau,
    "Training DNNs resilient to adversarial and random bit-flips by learning quantization ranges",
    TMLR 2023, learn the limit of each layer; here it is given.

    Ours: weights and biases of convolutions and linear layers are cut, those of batch normalization
    are not. Where that is folded into the layer before it for deployment, the limit bounds the
    weights before folding only.

    It is no defense against poison; its worth shows in trials with `hardware`.

    Attributes:
        limit: Largest absolute value of a weight or bias, above 0.
    """

    limit: float = 0.1

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "during"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        limit = number("limit", self.limit, low=0, open_low=True)
        object.__setattr__(self, "limit", limit)

    def train(
        self,
        dataset: Dataset,
        rng: Stream,  # noqa: ARG002 - training draws from the seed of the lab
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> Repaired:
        """Return the model trained with bounded weights."""
        return trained_otherwise(self, dataset, lab, after=self.clip)

    def clip(self, module: nn.Module) -> None:
        """Cut the weights and biases of a network's layers to the limit, in place."""
        with torch.no_grad():
            for layer in module.modules():
                if isinstance(layer, _LAYERS):
                    for tensor in layer.parameters(recurse=False):
                        tensor.clamp_(-self.limit, self.limit)
