"""Checks of accuracy and of the order of classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from casemate.data.domain import Domain
from casemate.inference.checks.of_accuracy import above_chance, class_order, declared
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from


def probe_of(y, predicted, k, names=None):
    """A probe of a model that predicted these labels."""
    names = names or tuple(f"c{i}" for i in range(k))
    target = target_from(nn.Identity(), domain=Domain(shape=(k,)), classes=names)
    scores = nn.functional.one_hot(predicted, k).float()
    return Probe(target=target, classes=names, x=scores, y=y, scores=scores)


def noisy(k, n, accuracy, seed=0):
    """Labels and predictions of which that share is right."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % k
    y = y[torch.randperm(n, generator=generator)]
    wrong = torch.rand(n, generator=generator) >= accuracy
    shift = torch.randint(1, k, (n,), generator=generator)
    return y, torch.where(wrong, (y + shift) % k, y)


@pytest.fixture
def healthy_probe(healthy, digits):
    return Probe.take(healthy, digits, torch.arange(256))


def test_a_healthy_model_passes(healthy_probe):
    assert declared(healthy_probe, 0.98) == []
    assert declared(healthy_probe, None) == []
    assert above_chance(healthy_probe) == []
    assert class_order(healthy_probe) == []


def test_an_accuracy_declared_too_high_or_too_low_fires():
    y, predicted = noisy(10, 250, 0.8)
    right = int((y == predicted).sum())
    (high,) = declared(probe_of(y, predicted, 10), 0.95)
    assert (high.id, high.severity) == ("accuracy", "error")
    assert "declared accuracy is 95.0 %" in high.message
    assert f"{100 * right / 250:.1f} % of 250 samples are right" in high.message
    (low,) = declared(probe_of(y, predicted, 10), 0.6)
    assert low.severity == "warning"
    assert declared(probe_of(y, predicted, 10), right / 250) == []


def test_the_interval_grows_as_samples_get_fewer():
    y, predicted = noisy(10, 20, 0.8)
    assert declared(probe_of(y, predicted, 10), 0.9) == []
    y, predicted = noisy(10, 2000, 0.8)
    assert declared(probe_of(y, predicted, 10), 0.9) != []


def test_guessing_fires_and_learning_does_not():
    (problem,) = above_chance(probe_of(*noisy(10, 250, 0.1), 10))
    assert (problem.id, problem.severity) == ("chance", "error")
    assert above_chance(probe_of(*noisy(10, 250, 0.3), 10)) == []
    only = torch.zeros(50, dtype=torch.int64)
    assert above_chance(probe_of(only, only, 10)) == []


def test_always_the_majority_is_chance():
    y = torch.tensor([0] * 90 + [1] * 10)
    (problem,) = above_chance(probe_of(y, torch.zeros_like(y), 2))
    assert "(90.0 %)" in problem.message


def test_two_classes_changed_over_fire_with_their_names(healthy_probe):
    scores = healthy_probe.scores.clone()
    scores[:, [3, 7]] = scores[:, [7, 3]]
    (problem,) = class_order(dataclasses.replace(healthy_probe, scores=scores))
    assert (problem.id, problem.severity) == ("class-order", "error")
    assert 'if output 3 is "7", output 7 is "3"' in problem.message


@pytest.mark.parametrize("k", [3, 10, 43])
def test_any_order_is_found_under_noise(k):
    y, predicted = noisy(k, 300, 0.85, seed=k)
    order = torch.randperm(k, generator=torch.Generator().manual_seed(k + 1))
    assert int((order == torch.arange(k)).sum()) < k
    (problem,) = class_order(probe_of(y, order[predicted], k))
    assert problem.id == "class-order"


def test_numbers_sorted_as_text_are_recognized():
    order = torch.tensor(sorted(range(12), key=str))  # output i stands for label order[i]
    inverse = order.argsort()
    y, predicted = noisy(12, 300, 0.95)
    names = tuple("lkjihgfedcba")
    (problem,) = class_order(probe_of(y, inverse[predicted], 12, names))
    assert problem.message.endswith("which is label numbers sorted as text")


def test_names_sorted_as_text_are_recognized():
    names = ("stop", "go", "wait", "turn")
    order = torch.tensor(sorted(range(4), key=lambda i: names[i]))
    y, predicted = noisy(4, 300, 0.95)
    (problem,) = class_order(probe_of(y, order.argsort()[predicted], 4, names))
    assert problem.message.endswith("which is the classes' names sorted as text")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("k", "n"), [(2, 40), (10, 256), (43, 256)])
@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9])
def test_poor_models_are_not_accused_of_another_order(seed, k, n, accuracy):
    """Some order always fits the samples a little better; that proves nothing."""
    y, predicted = noisy(k, n, max(accuracy, 1 / k), seed)
    assert class_order(probe_of(y, predicted, k)) == []


def test_labels_outside_the_model_do_not_stop_the_check():
    y, predicted = noisy(10, 300, 0.95)
    y[::7] = 99
    assert class_order(probe_of(y, predicted, 10)) == []
    (problem,) = class_order(probe_of(y, (predicted + 1) % 10, 10))
    assert problem.id == "class-order"
