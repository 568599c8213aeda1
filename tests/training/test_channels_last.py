"""Gradients keep the layout of images, and their values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.training.channels_last import gradients_channels_last


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4)
        )
    return layers.to(memory_format=torch.channels_last)


def images() -> torch.Tensor:
    drawn = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


def gradients(module: nn.Module) -> list[torch.Tensor]:
    loss = module(images()).square().sum()
    return list(torch.autograd.grad(loss, list(module.parameters())))


def test_gradients_are_the_same_bit_for_bit():
    module = network()
    plain = gradients(module)
    with gradients_channels_last(module):
        laid_out = gradients(module)
    for a, b in zip(plain, laid_out, strict=True):
        assert torch.equal(a, b)


def test_what_comes_back_through_flattening_has_channels_last():
    module = network()
    seen = []
    module[3].register_forward_pre_hook(lambda _m, x: x[0].register_hook(seen.append) and None)
    gradients(module)
    assert not seen[0].is_contiguous(memory_format=torch.channels_last)
    with gradients_channels_last(module):
        # hooks of a tensor run in order, so one that comes later sees what the first returned
        module[3].register_forward_pre_hook(lambda _m, x: x[0].register_hook(seen.append) and None)
        gradients(module)
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)


def test_no_hook_is_left_even_after_an_error():
    module = network()
    with pytest.raises(ZeroDivisionError), gradients_channels_last(module):
        raise ZeroDivisionError
    assert not module[3]._forward_pre_hooks


def test_other_inputs_of_flattening_are_left_alone():
    module = nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.Linear(4, 2))
    with gradients_channels_last(module):
        module(torch.ones(3, 4)).sum().backward()
    assert module[0].weight.grad is not None
