"""No change of an activation moves scores further apart than its bound says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.ops.opaque import Opaque

sys.path.insert(0, str(Path(__file__).parent))
from networks import network

IMAGES = 6


def norms(delta):
    """Return sum of sizes and Euclidean norm by channel, (rows, channels)."""
    flat = delta.double().flatten(2) if delta.ndim > 2 else delta.double().unsqueeze(2)
    return flat.abs().sum(2), flat.norm(dim=2)


def moved(before, after):
    """Return by how much two scores move apart at most, (rows,)."""
    change = (after - before).double()
    return change.amax(1) - change.amin(1)


@pytest.mark.parametrize("form", [NumberFormat(), NumberFormat(name="int8")], ids=str)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), size=st.sampled_from([0.01, 1.0, 30.0]))
def test_scores_move_no_further_than_the_reach(form, seed, size):
    module, shape = network(seed)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(IMAGES, *shape, generator=rng)
    made = deploy(module, shape, form, calibration=x)
    graph, values = made.graph, made.memory.values
    with torch.no_grad():
        bounds = graph.bounds(values)
        scores = graph.forward(values, x)
    slack = 1e-4 * float(scores.abs().max()) + 1e-6
    for i in range(-1, len(graph.nodes)):
        bound = bounds[i]
        if bound is None:
            continue
        name = "input" if i < 0 else graph.nodes[i].name
        for channel in (None, int(torch.randint(len(bound.one), (1,), generator=rng))):
            delta, after = disturbed(made, x, i, channel, size, rng)
            total, length = norms(delta)
            picked = None
            if channel is not None:
                picked = torch.full((IMAGES, 1), channel)
                total, length = total[:, [channel]], length[:, [channel]]
            reach = bound.reach(picked, total, length)
            assert (moved(scores, after) <= reach * (1 + 1e-4) + slack).all(), name
            ease = bound.ease(scores, scores.argmax(1))
            if ease is not None:
                counted = bound.reach(picked, total, length, ease)
                assert (spent(scores, after) <= counted * (1 + 1e-4) + slack).all(), name


def disturbed(made, x, node, channel, size, rng):
    """Return a random change of a node's output, of one channel or of all, and the scores."""
    graph = made.graph
    deltas = {}

    def edited(i, out):
        if i != node:
            return out
        change = torch.randn(out.shape, generator=rng) * size
        holds = "float32" if i < 0 else graph.nodes[i].holds
        if holds != "float32":
            change = (change * 10).round()
        if holds == "int8":
            change = (out + change).clamp(-128, 127) - out
        if channel is not None:
            mask = torch.zeros(out.shape[1], dtype=torch.bool)
            mask[channel] = True
            change = change * mask.view(-1, *[1] * (out.ndim - 2))
        deltas["was"] = change
        return out + change

    with torch.no_grad():
        after = graph.resume(made.memory.values, edited(-1, x), 0, {}, edited)
    return deltas["was"], after


def spent(before, after):
    """Return the largest share of a margin that a change takes, times the smallest margin."""
    best = before.argmax(1, keepdim=True)
    margins = (before.gather(1, best) - before).double()
    by = (after - before - (after - before).gather(1, best)).double()
    smallest = margins.scatter(1, best, torch.inf).amin(1)
    share = (by / margins).scatter(1, best, 0.0).nan_to_num(0.0, 0.0, 0.0)
    return share.amax(1) * smallest


def test_the_bound_of_a_linear_classifier_is_exact():
    module = nn.Sequential(nn.Linear(3, 4, bias=False))
    made = deploy(module, (3,))
    with torch.no_grad():
        (_, bound) = made.graph.bounds(made.memory.values)
    weight = module[0].weight.detach()
    assert torch.allclose(bound.weights, weight.amax(0) - weight.amin(0))
    delta = torch.tensor([[0.0, 2.0, 0.0]])
    reach = bound.reach(torch.tensor([[1]]), delta[:, [1]], delta[:, [1]])
    assert torch.allclose(reach, moved(torch.zeros(1, 4), delta @ weight.t()).float())


def test_scores_that_move_with_the_best_one_may_have_a_small_margin():
    # scores 0 and 1 hardly part, 2 does: the margin of 1 is what counts for pairs that part
    weight = torch.tensor([[3.0, 0.0], [3.0, 0.1], [-3.0, 0.0]])
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 3, bias=False))
    module[2].weight.data = weight
    made = deploy(module, (2,))
    with torch.no_grad():
        bound = made.graph.bounds(made.memory.values)[0]
    apart = torch.cdist(weight, weight)
    scores = torch.tensor([[0.0, -1.0, -20.0]])
    expected = torch.maximum(apart[0, 1] / 1, apart[0, 2] / 20) / apart.max()
    assert torch.allclose(bound.ease(scores, torch.tensor([0])), expected[None], rtol=1e-3)


def test_what_is_not_known_has_no_bound():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two = nn.Linear(4, 3)

        def forward(self, x):
            y = self.one(x)
            return self.two(y * y.sigmoid())

    made = deploy(Gate(), (4,))
    bounds = made.graph.bounds(made.memory.values)
    opaque = next(i for i, n in enumerate(made.graph.nodes) if isinstance(n.op, Opaque))
    assert bounds[opaque] is not None
    assert all(bounds[j] is None for j in made.graph.nodes[opaque].inputs)
    assert bounds[-1] is None
    assert np.isfinite(float(bounds[opaque].plus))
