from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator
from casemate.hardware.rounding import LARGEST, Rounding

UNIT = 2.0**-24


def test_a_change_is_within_the_margin_only_if_rounding_cannot_tell():
    rounding = Rounding(0.5)
    reach = torch.tensor([1.0, 1.0, 3.0, torch.inf, torch.nan])
    margin = torch.tensor([2.1, 1.9, 2.1, 2.1, 2.1])
    assert rounding.within(reach, margin).tolist() == [True, False, False, False, False]


def test_scores_are_in_doubt_where_the_reach_leaves_them_so():
    scores = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    # 16 units in the last place of how far the change may have reached
    near, far = 0.9 / (16 * UNIT), 1.1 / (16 * UNIT)
    reach = torch.tensor([0.0, near, far, torch.inf], dtype=torch.float64)
    assert Rounding(0.0).doubtful(scores, reach).tolist() == [False, False, True, False]
    assert Rounding(1.0).doubtful(scores, reach).tolist() == [True] * 4


def test_what_is_not_finite_is_in_doubt_and_integers_are_not():
    scores = torch.tensor([[1.0, torch.nan], [torch.inf, 0.0], [2.0, 2.0]])
    reach = torch.zeros(3)
    assert Rounding(0.0).doubtful(scores, reach).tolist() == [True] * 3
    assert Rounding(0.0, exact=True).doubtful(scores, reach).tolist() == [True, True, False]


def test_scores_next_to_each_other_are_close():
    scores = torch.tensor(
        [[1.0, 1.0], [1.0, 1.0 + 2**-19], [1.0, 1.1], [LARGEST, -LARGEST], [torch.inf, 0.0]]
    )
    assert Rounding(0.0).close(scores).tolist() == [True, True, False, False, False]


def test_the_error_is_measured_and_none_for_integers():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(500, 60), nn.ReLU(), nn.Linear(60, 3)).eval()
    x = torch.randn(80, 500)
    made = deploy(module, (500,))
    propagator = Propagator(made.graph, made.memory, x)
    rounding = Rounding.of(made.graph, propagator.values, propagator.cache, 1 << 21)
    with torch.no_grad():
        off = float((module.double()(x[:64].double()) - made.scores(x[:64])).abs().max())
    assert rounding.error >= 64 * off
    assert rounding.error == pytest.approx(
        max(64 * off, 64 * UNIT * float(propagator.cache.scores.abs().max()))
    )
