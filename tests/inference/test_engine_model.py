"""The model is left bit for bit as it was."""

from __future__ import annotations

import pytest
import torch
from steppers import same
from systems import (
    data_of,
    target_of,
)
from torch import nn

from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft


class Moody(nn.Module):
    """Batch norm in training mode with a frozen part, dropout, gradients, buffers, a counter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(64, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.raise_at = None

    def forward(self, x):
        self.calls += 1
        if self.raise_at is not None and self.calls >= self.raise_at:
            raise RuntimeError("out of order")
        return self.out(self.drop(self.frozen(self.norm(self.conv(x)))).flatten(1))


def moody():
    torch.manual_seed(0)
    module = Moody()
    module.train()
    module.frozen.eval()
    module.conv.weight.requires_grad_(False)
    module.out.weight.grad = torch.ones_like(module.out.weight)
    return module


def snapshot(module):
    return {
        "modes": {n: m.training for n, m in module.named_modules()},
        "state": {k: v.clone() for k, v in module.state_dict().items()},
        "ids": {k: id(v) for k, v in [*module.named_parameters(), *module.named_buffers()]},
        "requires_grad": {k: p.requires_grad for k, p in module.named_parameters()},
        "grad": {k: None if p.grad is None else id(p.grad) for k, p in module.named_parameters()},
        "grad values": {
            k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None
        },
        "rng": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b


@pytest.mark.parametrize("raise_at", [None, 1, 3])
@pytest.mark.parametrize(
    "attack",
    [PGD(epsilon=0.1, steps=3, restarts=2), UniformNoise(draws=3), LBFGS(searches=1, iterations=3)],
    ids=lambda a: type(a).__name__,
)
def test_the_model_is_left_bit_for_bit_as_it_was(attack, raise_at):
    module = moody()
    module.raise_at = raise_at
    data = data_of(torch.rand(5, 2, 4, 4), [0, 1, 2, 0, 1], 3)
    before = snapshot(module)
    target = target_of(module, data)
    if raise_at is None:
        craft(attack, target, data, batch_size=2)
    else:
        with pytest.raises(RuntimeError, match="out of order"):
            craft(attack, target, data, batch_size=2)
    after = snapshot(module)
    for name in before:
        assert equal(before[name], after[name]), name


def test_training_mode_does_not_reach_the_figures():
    """Batch norm and dropout are evaluated as in deployment, whatever the owner left."""
    module = moody()
    data = data_of(torch.rand(6, 2, 4, 4), [0, 1, 2, 0, 1, 2], 3)
    first = craft(PGD(epsilon=0.1, steps=3), target_of(module, data), data, batch_size=6)
    second = craft(PGD(epsilon=0.1, steps=3), target_of(module, data), data, batch_size=2)
    same(first, second)
    again = craft(PGD(epsilon=0.1, steps=3), target_of(module.eval(), data), data, batch_size=4)
    same(first, again)
