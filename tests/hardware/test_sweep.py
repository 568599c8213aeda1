from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from casemate.hardware.cases import flips
from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator
from casemate.hardware.sweep import Sweep
from casemate.hardware.upsets import Sites, Upsets


def propagator(module, x):
    made = deploy(module.eval(), tuple(x.shape[1:]))
    return Propagator(made.graph, made.memory, x)


@pytest.fixture
def counted(monkeypatch):
    """Rows that were followed, run on from some node, and run in full."""
    rows = {"followed": 0, "run on": 0, "in full": 0}
    followed, run_on, full = Sweep._pushed, Sweep._run_on, Sweep.run_full

    def note_followed(self, node, given, *rest, **how):
        rows["followed"] += len(given)
        return followed(self, node, given, *rest, **how)

    def note_run_on(self, node, given, boxes):
        rows["run on"] += len(given)
        return run_on(self, node, given, boxes)

    def note_full(self, number, given, again):
        rows["in full"] += len(given)
        return full(self, number, given, again)

    monkeypatch.setattr(Sweep, "_pushed", note_followed)
    monkeypatch.setattr(Sweep, "_run_on", note_run_on)
    monkeypatch.setattr(Sweep, "run_full", note_full)
    return rows


def flip(propagator, name, word, bit):
    number = np.array([propagator.memory.span(name)[0] + 32 * word + bit])
    return propagator.effects(flips(propagator.memory, np.array([0]), number, 1))


def network():
    """Two inputs, a hidden unit of each, and a score of each of these."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.eye(2))
        module[2].weight.copy_(torch.eye(2))
    return module


def test_changes_that_cannot_matter_are_not_followed(counted):
    x = torch.tensor([[5.0, 1.0], [1.0, 2.0]])
    held = propagator(network(), x)
    assert flip(held, "0.weight", 0, 3).changed.tolist() == [0]
    assert counted["followed"] == 0
    # 1.5 instead of 1 moves the first score by half its input: too little for either image
    effects = flip(held, "0.weight", 0, 22)
    assert counted["followed"] == 0
    assert effects.changed.tolist() == [0]
    # 0 becomes 2: the second input leads the second image to the first class
    effects = flip(held, "0.weight", 1, 30)
    assert counted["followed"] == 1
    assert effects.image.tolist() == [1]


def test_rows_whose_sums_may_overflow_are_run_on_in_full(counted):
    module = network()
    with torch.no_grad():
        module[0].weight[1, 0] = 0.75  # which becomes 2.55e38
        module[2].weight.mul_(3.0)  # times which no float32 holds it
    held = propagator(module, torch.tensor([[1.0, 0.1], [0.5, 0.05]]))
    effects = flip(held, "0.weight", 2, 30)
    assert counted["run on"] == 2
    assert counted["in full"] == 0
    assert effects.broken.tolist() == [2]
    counted.update(dict.fromkeys(counted, 0))
    with torch.no_grad():
        module[2].weight.div_(3.0)
    held = propagator(module, torch.tensor([[1.0, 0.1], [0.5, 0.05]]))
    effects = flip(held, "0.weight", 2, 30)
    assert counted["run on"] == 0
    assert effects.broken.tolist() == [0]
    assert effects.changed.tolist() == [2]


def test_scores_that_rounding_may_swap_are_run_in_full(counted):
    module = network()
    held = propagator(module, torch.tensor([[4.0, 2.0]]))
    # 1 becomes 0.5 and the two scores are as good as each other
    flip(held, "0.weight", 0, 23)
    assert counted["in full"] == 1


def test_rows_are_split_where_their_boxes_grow(monkeypatch):
    """A change of one number becomes one of a whole map, and no output is larger than allowed."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1), nn.Tanh()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 25, 3))
    held = propagator(module, torch.randn(30, 2, 5, 5))
    sites = Sites(held.graph, ("input",))
    element = np.arange(sites.bits // 32)
    upsets = Upsets.inverted(*sites.locate(element * 32 + 30), np.zeros_like(element) - 1)
    expected = held.upset(upsets)
    held.sweep.elements = 1000
    monkeypatch.setattr(Sweep, "step", lambda self, node: 10**6)  # as where boxes were small before
    stepped, sizes = Sweep._stepped, []

    def note(self, i, live, stopped):
        out = stepped(self, i, live, stopped)
        sizes.append(live.boxes[i].value.numel())
        return out

    monkeypatch.setattr(Sweep, "_stepped", note)
    found = held.upset(upsets)
    assert max(sizes) <= 1000
    assert len(sizes) > 100
    np.testing.assert_array_equal(found.changed, expected.changed)
    assert expected.changed.sum() > 0
