"""The optimizer that a recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

    from casemate.training.recipe import Recipe

__all__ = ["groups", "optimizer"]


def groups(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameters that are trained, "params", with the "weight_decay" of each group.

    Weight decay spares biases and the scales of normalization.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    found: list[dict[str, Any]] = [
        # biases and the scales of normalization are vectors; pulling them to zero only hurts
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [g for g in found if g["params"]]


def optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer as torch's class, for libraries that want one.

    `casemate.training.descent` takes the same steps without it.
    """
    trained = groups(module, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trained, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(trained, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))
