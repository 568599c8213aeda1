"""How many samples go forward through networks where gradients are wanted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from casemate.training.attacks.input_aware_trigger import Generator
from casemate.training.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def worked(patch: pytest.MonkeyPatch, classes: int) -> Iterator[dict[str, int]]:
    """Count samples of classifiers and of generators; models that a lab trains are left out."""
    counts = {"classifier": 0, "generator": 0}
    under_way = [False]
    trained = Lab.trained

    def quietly(self, *args, **named):
        under_way[0] = True
        try:
            return trained(self, *args, **named)
        finally:
            under_way[0] = False

    def seen(module, inputs, _):
        if under_way[0] or not torch.is_grad_enabled():
            return
        if isinstance(module, Generator):
            counts["generator"] += len(inputs[0])
        elif isinstance(module, nn.Linear) and module.out_features == classes:
            counts["classifier"] += len(inputs[0])

    with patch.context() as context:
        context.setattr(Lab, "trained", quietly)
        handle = register_module_forward_hook(seen)
        try:
            yield counts
        finally:
            handle.remove()
