"""Checks of mode, determinism and dependence on the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.guard import guarded
from casemate.inference.checks.of_state import batch_dependence, nondeterminism, training_mode
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from


def checked(check, module, digits, n=100, **more):
    target = target_from(module, domain=digits.domain, classes=digits.classes, **more)
    with guarded(target.modules):
        return check(Probe.take(target, digits, torch.arange(n)))


class Wrapped(nn.Module):
    def __init__(self, net, before):
        super().__init__()
        self.net, self.before = net, before

    def forward(self, x):
        return self.net(self.before(x))


def batch_norm(x):
    """BatchNorm with the statistics of the batch, in any mode."""
    return nn.functional.batch_norm(x, None, None, training=True)


def test_training_mode_fires_with_the_kinds(trained):
    assert training_mode([trained]) == []
    trained.norm.train()
    trained.drop.train()
    (problem,) = training_mode([trained, trained])
    assert (problem.id, problem.severity) == ("training-mode", "warning")
    assert "2 of 8 modules" in problem.message
    assert "1 BatchNorm2d, 1 Dropout" in problem.message
    assert training_mode([]) == []


def test_a_healthy_model_passes(trained, digits):
    assert checked(nondeterminism, trained, digits) == []
    assert checked(batch_dependence, trained, digits) == []


def test_training_mode_alone_is_cured_by_the_guard(trained, digits):
    assert checked(nondeterminism, trained.train(), digits) == []
    assert checked(batch_dependence, trained.train(), digits) == []


@pytest.mark.parametrize(
    "before",
    [
        lambda x: nn.functional.dropout(x, 0.3, training=True),
        lambda x: x + 0.3 * torch.randn_like(x),
    ],
    ids=["dropout that stays on", "noise"],
)
def test_random_outputs_fire_and_are_not_taken_for_batch_dependence(trained, digits, before):
    module = Wrapped(trained, before)
    (problem,) = checked(nondeterminism, module, digits)
    assert (problem.id, problem.severity) == ("random-outputs", "error")
    assert "for 100 of 100 samples" in problem.message
    assert checked(batch_dependence, module, digits) == []


def test_a_model_that_counts_its_calls_fires(trained, digits):
    class Drifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.net(x) + self.calls * torch.arange(10)

    (problem,) = checked(nondeterminism, Drifting(), digits)
    assert problem.id == "random-outputs"


@pytest.mark.parametrize(
    "before",
    [batch_norm, lambda x: x - x.mean(0, keepdim=True), lambda x: x / x.norm()],
    ids=["batch statistics", "centered over the batch", "scaled by the batch's norm"],
)
def test_batch_dependence_fires(trained, digits, before):
    (problem,) = checked(batch_dependence, Wrapped(trained, before), digits)
    assert (problem.id, problem.severity) == ("batch-dependence", "error")


def test_batchnorm_without_running_statistics_fires(trained, digits):
    trained.norm = nn.BatchNorm2d(16, track_running_stats=False)
    (problem,) = checked(batch_dependence, trained, digits)
    assert problem.id == "batch-dependence"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rounding_of_another_type_is_no_dependence(trained, digits, dtype):
    assert checked(batch_dependence, trained.to(dtype), digits) == []
    assert checked(nondeterminism, trained.to(dtype), digits) == []


def test_nan_is_another_checks_matter(trained, digits):
    trained.out.bias.data[0] = float("nan")
    assert checked(nondeterminism, trained, digits) == []
    assert checked(batch_dependence, trained, digits) == []


def test_a_single_sample_has_no_batch(trained, digits):
    assert checked(batch_dependence, Wrapped(trained, lambda x: x / x.norm()), digits, n=1) == []
