"""Scores of bits: gradients against a loop over images, and scores against what flips do."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from casemate.hardware.cases import flips
from casemate.hardware.estimation.faults import bits_of
from casemate.hardware.estimation.scores import _chance, _changed, bit_scores, flip_sizes
from casemate.hardware.estimation.sensitivity import pulls, soft_margin
from casemate.hardware.estimation.straight_through import through
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import network
from truths import IMAGES, scored, truth


def smooth_network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Conv2d(3, 6, 3, groups=3),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 4),
    ).eval()
    module[1].running_mean.normal_()
    return module, torch.randn(5, 2, 5, 5)


def all_pulls(graph, values, x, names):
    found = {name: [] for name in names}
    for name, pull in pulls(graph, values, x, names):
        found[name].append(pull)
    return {name: torch.cat(parts) for name, parts in found.items()}


def test_gradients_of_each_image_are_those_of_a_loop():
    module, x = smooth_network()
    made = deploy(module, (2, 5, 5))
    names = [r.name for r in made.memory.regions]
    found = all_pulls(made.graph, made.memory.values, x, names)
    for k in range(len(x)):
        leaves = dict(module.named_parameters())
        margin = soft_margin(module(x[k : k + 1]))
        gradients = torch.autograd.grad(-margin.log().sum(), list(leaves.values()))
        for name, gradient in zip(leaves, gradients, strict=True):
            torch.testing.assert_close(
                found[name][k], gradient.flatten(), rtol=1e-4, atol=1e-5, msg=name
            )


def test_parts_of_images_make_no_difference(monkeypatch):
    module, x = smooth_network()
    made = deploy(module, (2, 5, 5))
    names = ["0.weight", "6.bias"]
    once = all_pulls(made.graph, made.memory.values, x, names)
    monkeypatch.setattr("casemate.hardware.estimation.sensitivity._ELEMENTS", 60)
    each = sum(math.prod(node.shape) for node in made.graph.nodes)
    monkeypatch.setattr("casemate.hardware.estimation.sensitivity._RUN", 3 * each)
    parts = all_pulls(made.graph, made.memory.values, x, names)
    for name in names:
        torch.testing.assert_close(once[name], parts[name])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("form", [NumberFormat(), NumberFormat(name="int8")], ids=str)
def test_outputs_with_gradients_are_those_of_the_network(seed, form):
    module, shape = network(seed)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))
    made = deploy(module, shape, form, calibration=x)
    outputs = {-1: x}
    for i, node in enumerate(made.graph.nodes):
        before = tuple(outputs[j].clone().requires_grad_() for j in node.inputs)
        plain = node.op.dense(made.memory.values, *(b.detach() for b in before))
        outputs[i] = plain
        torch.testing.assert_close(
            through(node.op, made.memory.values, *before).detach(), plain, rtol=0, atol=0
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "form",
    [
        NumberFormat(),
        NumberFormat(name="float16"),
        NumberFormat(name="int8", scheme="affine", granularity="tensor"),
        NumberFormat(name="int4", activations="float32"),
    ],
    ids=str,
)
def test_every_bit_of_any_network_has_a_finite_score(seed, form):
    module, shape = network(seed)
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed))
    made = deploy(module, shape, form, calibration=x)
    scores = bit_scores(made.graph, made.memory.values, x, made.memory.regions)
    assert scores.shape == (made.memory.bits,)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert scores.max() > 0


def test_code_without_gradients_has_no_scores_but_faults_can_be_tried():
    class Blunt(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            return (x @ self.weight.T).detach() if x.sum() else x

    made = deploy(Blunt(), (4,))
    assert made.notes  # it depends on its input and cannot be traced
    x = torch.randn(5, 4)
    scores = bit_scores(made.graph, made.memory.values, x, made.memory.regions)
    assert scores.tolist() == [0.0] * made.memory.bits


def test_many_changes_are_summed_as_one_by_one():
    rng = torch.Generator().manual_seed(0)
    pull = torch.randn(20, 30, generator=rng) * 10 ** torch.randn(30, generator=rng)
    sizes = 10 ** (2 * torch.randn(30, 5, generator=rng)) * torch.randn(30, 5, generator=rng).sign()
    sizes[3, 2], sizes[4, 1] = torch.inf, torch.nan
    z = pull[:, :, None] * sizes
    exact = _chance(torch.where(z < 0, -0.5 * z, z)).sum(0)
    torch.testing.assert_close(_changed(pull, sizes), exact, rtol=4e-3, atol=1e-6)


def test_sizes_of_flips_are_those_of_the_words():
    memory = truth().propagator.memory
    for name in ("6.weight", "6.bias", "6.weight.scale"):
        region = memory[name]
        sizes = flip_sizes(region)
        for word, bit in ((0, 0), (3, 5), (8, region.word.bits - 1)):
            raw = region.word.raw(region.words[word])
            new = region.word.of_raw((raw ^ (1 << bit)).view(1))
            exact = new.double() - region.values.reshape(-1)[word].double()
            assert float(sizes[word, bit]) == pytest.approx(float(exact))


def test_scores_of_a_linear_model_in_closed_form():
    module = nn.Linear(2, 2, bias=False)
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.1]])
    made = deploy(module, (2,))
    memory = made.memory
    scores = bit_scores(made.graph, memory.values, x, memory.regions)
    weight = memory["weight"].values
    lead = (x @ weight.T)[:, 0] - (x @ weight.T)[:, 1]
    for number in range(0, memory.bits, 5):
        fault = memory.fault(number)
        (row, column), bit = fault.index, fault.bit
        flipped = memory["weight"].word.of_raw(
            memory["weight"].word.raw(memory["weight"].words[2 * row + column]) ^ (1 << bit)
        )
        by = float(flipped.double() - weight[row, column].double())
        # the lead of class 0 grows with its own weights
        z = -by * (1 if row == 0 else -1) * x[:, column].double() / lead.double()
        z = torch.where(z < 0, -z / 2, z)
        s = float((z**2.5 / (1 + z**2.5)).nan_to_num(1.0).sum())
        assert scores[number] == pytest.approx((s + s * s) ** 0.5, rel=5e-3), fault


def test_scales_count_though_the_margin_does_not_feel_them():
    propagator = truth().propagator
    memory = propagator.memory
    scales = [r for r in memory.where(roles=["scale"]) if r.count == 1]
    scores = scored(propagator, scales).reshape(len(scales), 32)
    for region, score in zip(scales, scores, strict=True):
        size = (flip_sizes(region)[0] / region.values.reshape(-1)).abs()
        assert (score[size.numpy() > 0.99] > 0.45 * IMAGES).all()


def test_faults_with_high_scores_matter():
    held = truth()
    values = held.corrupted[held.numbers]
    order = np.argsort(-held.scores)
    assert values[order[:2000]].sum() > 0.85 * values.sum()  # of 17,752
    assert values[order[-8000:]].sum() < 0.01 * values.sum()


def test_scores_follow_the_regions_that_are_asked_for():
    held = truth()
    memory = held.propagator.memory
    regions = memory.where(roles=["weight"])
    part = scored(held.propagator, regions[2:4])
    whole = np.zeros(memory.bits)
    whole[held.numbers] = held.scores
    faults = bits_of(memory, regions[2:4])
    np.testing.assert_allclose(part, whole[faults.at(np.arange(faults.population))], rtol=1e-5)


def test_words_of_a_normalization_that_wreck_the_network_have_large_scores():
    """A channel's variance that becomes next to nothing leaves no prediction as it was."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)]
    module = nn.Sequential(*layers)
    x = torch.randn(60, 1, 6, 6)
    module(x)
    made = deploy(module.eval(), (1, 6, 6))
    propagator = Propagator(made.graph, made.memory, x)
    regions = made.memory.where(roles=["norm"])
    numbers = bits_of(made.memory, regions).at(np.arange(sum(r.bits for r in regions)))
    cases = flips(made.memory, np.arange(len(numbers)), numbers, len(numbers))
    changed = propagator.effects(cases).without_numbers().changed
    wrecked = changed > 30
    assert wrecked.sum() > 20
    assert (scored(propagator, regions)[wrecked] > 20).mean() > 0.95
