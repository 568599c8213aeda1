"""Adversarial training: the batch is attacked before each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from casemate.models.hyperparameters import number, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.data.domain import Domain

__all__ = ["Adversarial"]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Training on L-infinity PGD examples instead of clean ones.

    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018, equation 2.1: the inner maximum is approached by projected
    gradient ascent on the cross-entropy from a uniformly random start in the ball.

    Attributes:
        epsilon: Radius of the ball, in the domain's units.
        step_size: Length of one ascent step, in the domain's units.
        steps: Ascent steps a batch; each costs about as much as a step of clean training.
    """

    epsilon: float
    step_size: float
    steps: int

    def __post_init__(self) -> None:
        for key in ("epsilon", "step_size"):
            value = number(f"recipe.adversarial.{key}", getattr(self, key), low=0, open_low=True)
            object.__setattr__(self, key, value)
        whole("recipe.adversarial.steps", self.steps, low=1, high=1000)

    def __call__(
        self,
        x: Tensor,
        loss: Callable[[Tensor], Tensor],
        domain: Domain,
        generator: torch.Generator,
    ) -> Tensor:
        """Return points of the ball and the domain at which the loss is higher.

        Args:
            x: (b, *shape) in the domain; left as it is.
            loss: (b, *shape) points to the scalar that is maximized; its samples must not
                interact, so batch normalization has to be in evaluation mode.
            domain: Bounds of the values.
            generator: On the CPU, whatever the device of `x`.
        """
        low = (x - self.epsilon).clamp_(min=domain.low)
        high = (x + self.epsilon).clamp_(max=domain.high)
        noise = torch.rand(x.shape, generator=generator).to(x.device)
        point = (x + (noise * 2 - 1) * self.epsilon).clamp_(low, high)
        for _ in range(self.steps):
            point.requires_grad_(True)
            with torch.enable_grad():
                # only the points' gradient: the parameters' would double the cost
                (gradient,) = torch.autograd.grad(loss(point), point)
            point = torch.clamp(point.detach() + self.step_size * gradient.sign(), low, high)
        return point.detach()
