"""First-order changes of a loss are exact where it is linear, and gradients change no value."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from casemate.hardware.attacks import bit_gradients
from casemate.hardware.attacks.bit_gradients import (
    best_flips,
    first_order,
    flip_changes,
    loss_gradients,
)
from casemate.hardware.attacks.outcome import flipped
from casemate.hardware.attacks.straight_through import smooth_output
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.words import WORDS

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import network

FORMATS = (
    NumberFormat(name="float32"),
    NumberFormat(name="int8"),
    NumberFormat(name="int8", scheme="affine", granularity="tensor"),
    NumberFormat(name="int4", activations="float32"),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_a_gradient_changes_no_value(form, seed):
    module, shape = network(seed)
    x = normal(6, *shape)
    made = deploy(module, shape, form, calibration=x)
    plain = made.graph.forward(made.memory.values, x)
    values = {n: v.clone().requires_grad_() for n, v in made.memory.values.items()}
    smooth = smooth_output(made.graph, values, x)
    assert torch.equal(smooth, plain)
    smooth.sum().backward()
    weights = [r.name for r in made.memory.where(roles=["weight"])]
    assert any(bool(values[n].grad.any()) for n in weights)


def test_operations_on_integers_have_the_gradient_of_those_in_floating_point():
    # quantization, sums, a table, a mean that is rounded
    x, by_score = normal(200, 3, 8, 8), normal(200, 3, seed=1)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).eval()
    found = {}
    for activations in ("int8", "float32"):
        form = NumberFormat(name="int8", activations=activations)
        made = deploy(module, (3, 8, 8), form, calibration=x)
        scores = smooth_output(made.graph, made.memory.values, x.clone().requires_grad_())
        assert torch.equal(scores, made.scores(x))
        names = ["0.weight", "4.weight"]
        found[activations] = loss_gradients(made.graph, made.memory.values, names, x, by_score)
    for name, gradient in found["int8"].items():
        other = found["float32"][name]
        assert float(torch.cosine_similarity(gradient.view(-1), other.view(-1), 0)) > 0.97


def test_statistics_of_batch_normalization_have_a_gradient():
    x, by_score = normal(50, 3), normal(50, 3, seed=1)
    norm = nn.BatchNorm1d(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    made = deploy(nn.Sequential(norm, nn.Identity()).eval(), (3,))
    names = ["0.running_mean", "0.bias"]
    found = loss_gradients(made.graph, made.memory.values, names, x, by_score)
    assert torch.allclose(found["0.bias"], by_score.sum(0), atol=1e-4)
    expected = -by_score.sum(0) * norm.weight.detach()
    assert torch.allclose(found["0.running_mean"], expected, atol=1e-3)


def test_gradients_are_differences_of_a_loss_in_floating_point():
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4)).eval()
    made = deploy(module, (1, 5, 5))
    x, direction = normal(300, 1, 5, 5), normal(300, 4, seed=1)
    names = ["0.weight", "3.weight"]
    found = loss_gradients(made.graph, made.memory.values, names, x, direction)
    assert list(found) == names
    double = {n: v.double() for n, v in made.memory.values.items()}
    for name in names:
        for at in (0, 7, 20):
            losses = []
            for step in (1e-5, -1e-5):
                moved = {**double, name: double[name].clone()}
                moved[name].view(-1)[at] += step
                with torch.no_grad():
                    out = torch.tanh(
                        nn.functional.conv2d(x.double(), moved["0.weight"], moved["0.bias"])
                    )
                    out = out.flatten(1) @ moved["3.weight"].t() + moved["3.bias"]
                losses.append(float((out * direction).sum()))
            slope = (losses[0] - losses[1]) / 2e-5
            assert float(found[name].view(-1)[at]) == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_gradients_of_integers_are_those_of_the_numbers_that_they_stand_for(deployed, digits):
    x = digits[0].x[:200]
    by_score = normal(200, 10)
    found = {}
    for activations in ("int8", "float32"):
        made = deployed(name="int8", granularity="tensor", activations=activations)
        found[activations] = loss_gradients(
            made.graph, made.memory.values, ["0.weight", "4.weight", "6.weight"], x, by_score
        )
    for name, gradient in found["int8"].items():
        other = found["float32"][name]
        assert float(torch.cosine_similarity(gradient.view(-1), other.view(-1), 0)) > 0.97
        assert float(gradient.norm() / other.norm()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_every_flip_of_a_linear_model_changes_a_linear_loss_as_foretold(linear, activations):
    x, direction = normal(40, 5), normal(40, 3, seed=2)
    made = linear(normal(3, 5, seed=1), activations=activations, x=x)
    (region,) = made.memory.where(roles=["weight"])
    gradient = loss_gradients(made.graph, made.memory.values, [region.name], x, direction)
    foretold = first_order(region.word, region.words, gradient[region.name].view(-1))
    loss = float((made.scores(x) * direction).double().sum())
    start = made.memory.span(region.name)[0]
    for bit in range(region.bits):
        changed = flipped(made, np.array([start + bit])).scores(x)
        true = float((changed * direction).double().sum()) - loss
        assert float(foretold.view(-1)[bit]) == pytest.approx(true, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", WORDS)
def test_a_flip_changes_a_number_by_what_its_new_word_stands_for(name):
    word = WORDS[name]
    words = word.encode(normal(50) * (1 if word.floating else 40))
    change = flip_changes(word, words)
    assert change.shape == (50, word.bits)
    for bit in range(word.bits):
        new = word.decode(word.carried(word.raw(words) ^ (1 << bit))).double()
        expected = new - word.decode(words).double()
        assert torch.equal(change[:, bit].nan_to_num(7), expected.nan_to_num(7))


def test_a_flip_to_what_is_no_number_is_never_the_best():
    word = WORDS["float32"]
    words = word.encode(torch.tensor([1.5, 0.0]))  # with bit 30, 1.5 is no number
    change = first_order(word, words, torch.tensor([1.0, 0.0]))
    assert change[0, 30] == -torch.inf
    assert not change.isnan().any()
    index, _ = best_flips(word, words, torch.tensor([-1.0, 0.0]), 64)
    assert 30 not in index.tolist()


def test_the_best_flips_are_those_of_a_full_list(monkeypatch):
    monkeypatch.setattr(bit_gradients, "_WORDS", 7)  # many parts
    word = WORDS["int8"]
    words = word.encode(normal(40) * 50)
    gradient = normal(40, seed=1)
    allowed = torch.rand(40, 8, generator=torch.Generator().manual_seed(2)) < 0.3
    change = first_order(word, words, gradient)
    index, found = best_flips(word, words, gradient, 12)
    assert torch.equal(found, change.view(-1).sort(descending=True).values[:12])
    assert torch.equal(change.view(-1)[index], found)
    index, found = best_flips(word, words, gradient, 10_000, allowed=allowed)
    assert sorted(index.tolist()) == (allowed & (change > 0)).view(-1).nonzero()[:, 0].tolist()
