"""Checks of gradients, and where they end."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.guard import guarded
from casemate.inference.checks.of_gradients import gradients
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from


def checked(module, digits, **more):
    target = target_from(module.eval(), domain=digits.domain, classes=digits.classes, **more)
    with guarded(target.modules):
        return gradients(Probe.take(target, digits, torch.arange(64)))


class Layer(nn.Module):
    """A layer of its own name around a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


def with_layer(trained, after, name, function):
    """Put a layer behind a named one."""
    net = nn.Sequential()
    for key, child in trained.named_children():
        net.add_module(key, child)
        if key == after:
            net.add_module(name, Layer(function))
    return net


def test_a_healthy_model_passes(trained, digits):
    assert checked(trained, digits) == []


def test_a_black_box_has_none_to_check(trained, digits):
    target = target_from(
        lambda x: x[:, 0, 0, :1].repeat(10, 1), domain=digits.domain, classes=digits.classes
    )
    assert gradients(Probe.take(target, digits, torch.arange(4))) == []


@pytest.mark.parametrize("after", ["conv", "relu", "flatten"])
def test_a_cut_graph_fires_and_names_the_layer(trained, digits, after):
    net = with_layer(trained, after, "quantize", lambda x: x.detach())
    (problem,) = checked(net, digits)
    assert (problem.id, problem.severity) == ("gradients-absent", "error")
    assert problem.message.endswith('the gradient is cut in layer "quantize" (Layer)')


def test_a_cut_between_layers_and_at_the_ends_is_placed(trained, digits):
    class Net(nn.Module):
        def __init__(self, where):
            super().__init__()
            self.net, self.where = trained, where

        def forward(self, x):
            x = x.detach() if self.where == "start" else x
            x = self.net(x)
            return x.detach() if self.where == "end" else x

    (start,) = checked(Net("start"), digits)
    assert start.message.endswith('cut before layer "net.conv" (Conv2d)')
    (end,) = checked(Net("end"), digits)
    assert end.message.endswith('cut after layer "net.out" (Linear)')


@pytest.mark.parametrize(("after", "nested"), [("conv", False), ("relu", True), ("flatten", False)])
def test_a_flat_layer_fires_and_is_named(trained, digits, after, nested):
    net = with_layer(trained, after, "steps", lambda x: (x * 8).round() / 8)
    prefix = "inner." if nested else ""
    net = nn.Sequential() if nested else net
    if nested:
        net.add_module("inner", with_layer(trained, after, "steps", lambda x: (x * 8).round() / 8))
    (problem,) = checked(net, digits)
    assert (problem.id, problem.severity) == ("gradients-zero", "error")
    assert "exactly zero for 32 of 32 samples" in problem.message
    assert problem.message.endswith(f'it dies in or right before layer "{prefix}steps" (Layer)')


def test_zeros_after_the_last_layer_are_placed_there(trained, digits):
    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, x):
            return (self.net(x) * 100).round()

    (problem,) = checked(Rounded(), digits)
    assert problem.message.endswith('it dies after layer "net.out" (Linear)')


def test_zeros_for_a_few_samples_only_warn(trained, digits):
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, x):
            keep = (torch.arange(len(x)) % 4 > 0).view(-1, 1, 1, 1)
            return self.net(torch.where(keep, x, x.detach()))

    (problem,) = checked(Clipped(), digits)
    assert (problem.id, problem.severity) == ("gradients-zero", "warning")
    assert "for 8 of 32 samples" in problem.message


def test_a_saturated_softmax_warns(trained, digits):
    class Sharp(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, x):
            return self.net(x) * 1e4

    (problem,) = checked(Sharp(), digits)
    assert (problem.id, problem.severity) == ("gradients-saturated", "warning")


def test_gradients_that_are_no_numbers_fire(trained, digits):
    net = with_layer(trained, "conv", "root", lambda x: x + (x - x).sqrt())
    problems = checked(net, digits)
    assert "gradients-not-finite" in [p.id for p in problems]


def overwritten(x):
    """Overwrite what the backward pass of exp needs."""
    y = x.exp()
    z = y * 2
    y.mul_(2)
    return z


@pytest.mark.parametrize("function", [NoBackward.apply, overwritten], ids=["none", "overwritten"])
def test_a_backward_pass_that_raises_is_a_problem(trained, digits, function):
    (problem,) = checked(with_layer(trained, "conv", "bad", function), digits)
    assert (problem.id, problem.severity) == ("gradients-raise", "error")
    assert "Error" in problem.message


def test_probabilities_are_differentiated_as_such(trained, digits):
    net = with_layer(trained, "out", "softmax", lambda x: x.softmax(1))
    assert checked(net, digits, outputs="probabilities") == []


def test_one_logit_for_two_classes(digits):
    torch.manual_seed(0)
    target = target_from(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), domain=digits.domain, classes=("odd", "even")
    )
    assert gradients(Probe.take(target, digits, torch.arange(64))) == []
