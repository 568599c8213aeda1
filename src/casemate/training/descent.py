"""The steps of a recipe's optimizer, by torch's functions without the class around them.

The first instance of `torch.optim.Optimizer` imports torch's compiler, which no training here asks
for: two seconds and a hundred megabytes for each process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from casemate.training.optimizer import groups

if TYPE_CHECKING:
    from torch import nn

    from casemate.training.recipe import Recipe

__all__ = ["Descent"]

_SECOND_BETA, _EPSILON = 0.999, 1e-8


class Descent:
    """Lowers a loss step by step; equals `casemate.training.optimizer.optimizer` bit for bit."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self._groups = [
            ([_Slot(p) for p in group["params"]], group["weight_decay"])
            for group in groups(module, recipe)
        ]

    def forget(self) -> None:
        """Drop all gradients."""
        for slots, _ in self._groups:
            for slot in slots:
                slot.parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the parameters that have gradients."""
        take = self._sgd if self._recipe.optimizer == "sgd" else self._adam
        for slots, decay in self._groups:
            met = [slot for slot in slots if slot.parameter.grad is not None]
            take(met, [slot.parameter for slot in met], rate, decay)

    def _sgd(self, met: list[_Slot], parameters: list[Tensor], rate: float, decay: float) -> None:
        means = [slot.mean for slot in met]
        sgd(
            parameters,
            _gradients(met),
            means,
            weight_decay=decay,
            momentum=self._recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self._recipe.momentum > 0,
            maximize=False,
        )
        for slot, mean in zip(met, means, strict=True):
            slot.mean = mean

    def _adam(self, met: list[_Slot], parameters: list[Tensor], rate: float, decay: float) -> None:
        for slot in met:
            if slot.mean is None:
                slot.mean = torch.zeros_like(slot.parameter)
                slot.square = torch.zeros_like(slot.parameter)
        adam(
            parameters,
            _gradients(met),
            [slot.mean for slot in met],  # type: ignore[misc]  # set above
            [slot.square for slot in met],  # type: ignore[misc]
            [],
            [slot.steps for slot in met],
            decoupled_weight_decay=self._recipe.optimizer == "adamw",
            amsgrad=False,
            beta1=self._recipe.momentum,
            beta2=_SECOND_BETA,
            lr=rate,
            weight_decay=decay,
            eps=_EPSILON,
            maximize=False,
        )


class _Slot:
    """A parameter, and what the optimizer remembers of its gradients."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.mean: Tensor | None = None
        self.square: Tensor | None = None
        self.steps = torch.tensor(0.0)  # on the CPU, as torch keeps it


def _gradients(met: list[_Slot]) -> list[Tensor]:
    return [slot.parameter.grad for slot in met if slot.parameter.grad is not None]
