"""Figures from tables made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from systems import data_of, function_of, target_of
from torch import nn

from casemate.inference.measure import (
    attacked_scores,
    clean_scores,
    measurements,
    predicted,
    rows,
)

NAN = float("nan")


class Fixed(nn.Module):
    def forward(self, x):
        return x.flatten(1)


@pytest.fixture
def case():
    """Six samples of three classes whose scores are their inputs."""
    clean = torch.tensor([[3, 1, 0], [0, 3, 1], [0, 1, 3], [3, 1, 0], [0, 3, 1], [3, 0, 1]]).float()
    attacked = torch.tensor(
        [[1, 3, 0], [0, 3, 1], [0, 3, 1], [1, 3, 0], [NAN, 3, 1], [0, 1, 3]]
    ).float()
    labels = torch.tensor([0, 1, 2, 1, 1, 0])  # the fourth is wrong from the start, and right after
    data = data_of(clean, labels, 3, low=0, high=4)
    return target_of(Fixed(), data), data, clean, attacked


def table_of(case, goal=None, attempted=None):
    target, data, clean, attacked = case
    attempted = torch.ones(6, dtype=torch.bool) if attempted is None else attempted
    return rows(
        target,
        data,
        goal=goal,
        clean=clean,
        attacked=attacked,
        points=data.batch(slice(None)) + 0.5,
        attempted=attempted,
    )


def test_rows_untargeted(case):
    table = table_of(case)
    assert table["eligible"].tolist() == [True, True, True, False, True, True]
    # the fifth broke the model down: neither fooled nor right
    assert table["success"].tolist() == [True, False, True, False, False, True]
    assert table["clean_label"].tolist() == [0, 1, 2, 0, 1, 0]
    assert table["attacked_label"].tolist() == [1, 1, 1, 1, -1, 2]
    assert table["goal"].tolist() == [-1] * 6
    assert "clean_goal_confidence" not in table
    p = math.exp(3) / (math.exp(3) + math.exp(1) + 1)
    assert table["clean_true_confidence"][0] == pytest.approx(p)
    assert table["attacked_true_confidence"][0] == pytest.approx(p * math.exp(-2))
    assert table["clean_confidence"][3] == pytest.approx(p)
    assert table["clean_true_confidence"][3] == pytest.approx(p * math.exp(-2))
    assert table["clean_rank"].tolist() == [0, 0, 0, 1, 0, 0]
    assert table["attacked_rank"].tolist() == [1, 0, 1, 0, 3, 2]
    np.testing.assert_allclose(table["linf"], 0.5)
    np.testing.assert_allclose(table["l2"], math.sqrt(0.75))
    assert np.isnan(table["ssim"]).all()


def test_rows_with_a_goal(case):
    table = table_of(case, goal=1)
    # the second, fourth and fifth are of the goal's class already
    assert table["eligible"].tolist() == [True, False, True, False, False, True]
    assert table["success"].tolist() == [True, False, True, False, False, False]
    p = math.exp(3) / (math.exp(3) + math.exp(1) + 1)
    assert table["attacked_goal_confidence"][0] == pytest.approx(p)
    assert table["goal"].tolist() == [1] * 6


def test_only_attempted_samples_count(case):
    table = table_of(case, attempted=torch.tensor([True, True, False, True, True, False]))
    assert table["eligible"].tolist() == [True, True, False, False, True, False]
    assert table["success"].tolist() == [True, False, False, False, False, False]


def test_figures(case):
    found = {m.name: m for m in measurements(table_of(case), classes=3)}
    rate = found["attack success rate"]
    assert (rate.value, rate.n) == (3 / 5, 5)
    assert 0 < rate.low < 3 / 5 < rate.high < 1
    assert found["clean accuracy"].value == pytest.approx(5 / 6)
    assert found["clean accuracy"].n == 6
    # right before and after: the second alone
    assert found["accuracy under attack"].value == pytest.approx(1 / 6)
    assert "clean top-5 accuracy" not in found
    assert found["distance linf"].n == 3
    assert found["distance linf"].value == pytest.approx(0.5)
    assert found["ssim"].value is None
    # the confidence of the broken answer is unknown, not zero
    assert found["confidence in true class, clean"].n == 5
    assert found["confidence in true class, attacked"].n == 4
    assert "confidence in target class, clean" not in found
    for m in found.values():
        assert m.value is None or math.isfinite(m.value)


def test_figures_with_a_goal(case):
    found = {m.name: m for m in measurements(table_of(case, goal=1), classes=3)}
    assert (found["attack success rate"].value, found["attack success rate"].n) == (2 / 3, 3)
    assert found["confidence in target class, attacked"].n == 3
    p = math.exp(3) / (math.exp(3) + math.exp(1) + 1)
    values = [p, p, p * math.exp(-2)]
    assert found["confidence in target class, attacked"].value == pytest.approx(np.mean(values))


def test_nothing_eligible_is_not_zero(case):
    found = {
        m.name: m
        for m in measurements(table_of(case, attempted=torch.zeros(6, dtype=torch.bool)), classes=3)
    }
    assert found["attack success rate"].value is None
    assert found["attack success rate"].n == 0
    assert found["distance l2"].value is None
    assert found["clean accuracy"].n == 6


def test_top_5():
    """Of seven classes; the label is at rank 0, 4, 5 and 6 before, and drops to 5 in the first."""
    order = torch.arange(7.0, 0, -1).expand(4, 7)
    labels = torch.tensor([0, 4, 5, 6])
    attacked = order.clone()
    attacked[0, 0] = 1.5
    data = data_of(order, labels, 7, low=0, high=8)
    target = target_of(Fixed(), data)
    table = rows(
        target,
        data,
        goal=None,
        clean=order,
        attacked=attacked,
        points=attacked,
        attempted=torch.ones(4, dtype=torch.bool),
    )
    assert table["clean_rank"].tolist() == [0, 4, 5, 6]
    assert table["attacked_rank"].tolist() == [5, 4, 5, 6]
    found = {m.name: m for m in measurements(table, classes=7)}
    assert found["clean top-5 accuracy"].value == 0.5
    assert found["top-5 accuracy under attack"].value == 0.25


def test_predicted_is_never_right_where_scores_are_not_finite():
    scores = torch.tensor([[0.0, 2.0], [NAN, 1.0], [float("inf"), 0.0]])
    assert predicted(scores).tolist() == [1, -1, -1]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_scores_in_batches(batch_size, case):
    target, data, clean, _ = case
    assert torch.equal(clean_scores(target, data, batch_size), clean)
    assert torch.equal(attacked_scores(target, clean + 0.25, batch_size), clean + 0.25)
    box = function_of(lambda x: x.argmax(1), data, outputs="labels")
    assert torch.equal(clean_scores(box, data, batch_size).argmax(1), clean.argmax(1))


def test_scoring_leaves_the_model_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3), nn.Dropout(0.9)).train()
    data = data_of(torch.rand(6, 3), [0] * 6, 3)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    scores = clean_scores(target_of(module, data), data, 6)
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert (scores != 0).all()  # no dropout
    assert not scores.requires_grad


def test_ssim_of_untouched_images_is_one():
    x = torch.rand(3, 1, 12, 12)
    data = data_of(x, [0, 1, 0], 2)
    target = target_of(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), data)
    table = rows(
        target,
        data,
        goal=None,
        clean=torch.eye(2)[[0, 1, 0]],
        attacked=torch.eye(2)[[1, 0, 1]],
        points=x,
        attempted=torch.ones(3, dtype=torch.bool),
    )
    found = {m.name: m for m in measurements(table, classes=2)}
    assert found["ssim"].value == pytest.approx(1)
    assert found["distance linf"].value == 0
