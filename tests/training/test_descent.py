"""`Descent` takes the steps of torch's optimizers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from casemate.training.descent import Descent
from casemate.training.optimizer import optimizer
from casemate.training.recipe import Recipe


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
        )
    return layers.to(memory_format=torch.channels_last)


def images(seed: int) -> torch.Tensor:
    return torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_torch_bit_for_bit(name, momentum, decay):
    recipe = Recipe(optimizer=name, momentum=momentum, weight_decay=decay)
    ours, theirs = network(), network()
    descent, reference = Descent(ours, recipe), optimizer(theirs, recipe)
    for step in range(7):
        x, rate = images(step), 0.1 / (1 + step)
        reference.param_groups[0]["lr"] = reference.param_groups[1]["lr"] = rate
        descent.forget()
        reference.zero_grad()
        for module in (ours, theirs):
            torch.autograd.backward(module(x).square().mean())
        if step % 3 == 1:  # a parameter that no gradient reached stays and remembers
            ours[4].bias.grad = theirs[4].bias.grad = None
        descent.step(rate)
        reference.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_what_needs_no_gradient_stays():
    module = network()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    descent = Descent(module, Recipe())
    torch.autograd.backward(module(images(0)).square().mean())
    descent.step(0.1)
    assert torch.equal(module[0].weight, before)
    descent.forget()
    assert all(p.grad is None for p in module.parameters())


def test_training_does_not_import_the_compiler():
    script = """
import sys
from casemate.data.digits import Digits
from casemate.models.mlp import MLP
from casemate.training.loop import train
from casemate.training.recipe import Recipe

train(MLP(), Recipe(epochs=1), Digits().load("test"))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False"]
