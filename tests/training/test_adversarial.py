from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.data.domain import Domain
from casemate.training.adversarial import Adversarial

DOMAIN = Domain(shape=(6,), low=-1.0, high=1.0)
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.1, 0.7])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(points):
    return (points @ WEIGHTS).sum()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 1.5))
def test_on_a_linear_loss_the_optimum_is_reached(seed, epsilon):
    """max w.x' over the ball and the box is at clip(x + epsilon sign(w))."""
    x = torch.rand(4, 6, generator=generator(seed)) * 2 - 1
    attack = Adversarial(epsilon=epsilon, step_size=epsilon / 2, steps=5)
    found = attack(x, linear, DOMAIN, generator(seed))
    best = (x + epsilon * WEIGHTS.sign()).clamp(-1, 1)
    torch.testing.assert_close(found, best)


def test_the_start_is_random_within_the_ball():
    x = torch.zeros(200, 6)
    attack = Adversarial(epsilon=0.3, step_size=1e-6, steps=1)
    start = attack(x, linear, DOMAIN, generator())
    assert 0.28 < float(start.max()) <= 0.3
    assert -0.3 <= float(start.min()) < -0.28
    assert abs(float(start.mean())) < 0.02
    assert torch.equal(start, attack(x, linear, DOMAIN, generator()))


def test_neither_inputs_nor_parameters_are_touched():
    module = torch.nn.Linear(6, 3)
    x = torch.rand(5, 6, generator=generator())
    kept = x.clone()
    Adversarial(epsilon=0.1, step_size=0.05, steps=2)(
        x, lambda p: module(p).square().sum(), DOMAIN, generator()
    )
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert all(p.grad is None for p in module.parameters())
