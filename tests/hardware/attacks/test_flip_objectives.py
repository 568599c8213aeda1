"""Objectives of flips, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from casemate.hardware.attacks.objectives import (
    AllToOne,
    CrossEntropy,
    OneToOne,
    SigmoidMargin,
    StealthyOneToOne,
)

SCORES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 4.0, 3.0], [1.0, 0.0, 9.0]])
LABELS = torch.tensor([0, 1, 1])


def entropy(row, label):
    return math.log(sum(math.exp(s) for s in SCORES[row].tolist())) - float(SCORES[row, label])


def test_cross_entropy():
    expected = (entropy(0, 0) + entropy(1, 1) + entropy(2, 1)) / 3
    assert float(CrossEntropy()(SCORES, LABELS)) == pytest.approx(expected)


def test_the_sigmoid_margin_counts_what_is_wrong():
    sigmoids = [1 / (1 + math.exp(m / 2)) for m in (1.0, 1.0, -9.0)]
    loss = SigmoidMargin(temperature=2.0)(SCORES, LABELS)
    assert float(loss) == pytest.approx(sum(sigmoids) / 3)
    count = SigmoidMargin(temperature=1e-3)(SCORES, LABELS)
    assert float(count) == pytest.approx(1 / 3)


def test_the_sigmoid_margin_asks_nothing_more_of_what_is_wrong_by_far():
    scores = (SCORES * 10).requires_grad_()
    SigmoidMargin(temperature=1.0)(scores, LABELS).backward()
    assert float(scores.grad[2].abs().max()) < 1e-20 < float(scores.grad[1].abs().max())


def test_its_temperature_follows_the_scale_of_a_model():
    fit = SigmoidMargin.of(SCORES, 0.5)
    assert fit.temperature == pytest.approx(0.5)  # margins 1, 1 and 8
    scaled = SigmoidMargin.of(SCORES * 7, 0.5)
    assert float(scaled(SCORES * 7, LABELS)) == pytest.approx(float(fit(SCORES, LABELS)))


def test_targeted_objectives():
    assert float(AllToOne(target=2)(SCORES, LABELS)) == pytest.approx(
        -(entropy(0, 2) + entropy(1, 2) + entropy(2, 2)) / 3
    )
    moved = -(entropy(1, 2) + entropy(2, 2)) / 2
    assert float(OneToOne(source=1, target=2)(SCORES, LABELS)) == pytest.approx(moved)
    stealthy = StealthyOneToOne(source=1, target=2, balance=3.0)
    assert float(stealthy(SCORES, LABELS)) == pytest.approx(moved - 3 * entropy(0, 0))


def test_the_clean_term_of_the_stealthy_objective_has_a_gradient():
    scores = SCORES.clone().requires_grad_()
    StealthyOneToOne(source=1, target=2)(scores, LABELS).backward()
    assert float(scores.grad[0].abs().max()) > 0.1
