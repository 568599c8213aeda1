"""Checks of scores: each fires on a planted defect and is silent on a healthy model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from casemate.data.domain import Domain
from casemate.inference.checks.of_outputs import constant, not_finite, probabilities
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from


def probe_of(scores, *, outputs="logits", y=None):
    """A probe of a model that gave these scores."""
    k = scores.shape[1]
    target = target_from(
        nn.Identity(),
        domain=Domain(shape=(k,)),
        classes=tuple(map(str, range(k))),
        outputs=outputs,
    )
    labels = torch.arange(len(scores)) % k if y is None else y
    return Probe(target=target, classes=target.classes, x=scores, y=labels, scores=scores)


@pytest.fixture
def healthy_probe(healthy, digits):
    return Probe.take(healthy, digits, torch.arange(100))


def test_a_healthy_model_passes(healthy_probe):
    for check in (not_finite, constant, probabilities):
        assert check(healthy_probe) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_fire(healthy_probe, bad):
    scores = healthy_probe.scores.clone()
    scores[:7, 3] = bad
    (problem,) = not_finite(dataclasses.replace(healthy_probe, scores=scores))
    assert problem.message == "the model gave NaN or infinite scores for 7 of 100 samples"


def test_constant_predictions_fire():
    scores = torch.randn(20, 3)
    scores[:, 1] += 100
    (problem,) = constant(probe_of(scores))
    assert problem.id == "constant"
    assert "answers class 1 for each of 20 samples of 3 classes" in problem.message
    assert "same scores" not in problem.message
    (problem,) = constant(probe_of(torch.ones(20, 3)))
    assert problem.message.endswith("always with the same scores")


def test_one_class_may_well_be_predicted_throughout():
    scores = torch.randn(20, 3)
    scores[:, 1] += 100
    assert constant(probe_of(scores, y=torch.ones(20, dtype=torch.int64))) == []


def test_probabilities_declared_logits_fire(healthy_probe):
    scores = healthy_probe.scores.softmax(1)
    (problem,) = probabilities(dataclasses.replace(healthy_probe, scores=scores))
    assert (problem.id, problem.severity) == ("probabilities", "error")


def test_log_probabilities_are_logits(healthy_probe):
    scores = healthy_probe.scores.log_softmax(1)
    assert probabilities(dataclasses.replace(healthy_probe, scores=scores)) == []


def test_one_sigmoid_declared_logit_fires():
    p = torch.rand(50)
    (problem,) = probabilities(probe_of(torch.stack([torch.zeros(50), p], 1)))
    assert problem.id == "probabilities"
    assert probabilities(probe_of(torch.stack([torch.zeros(50), 4 * p - 2], 1))) == []


@pytest.mark.parametrize(
    "scores",
    [torch.randn(50, 4) * 3, torch.rand(50, 4).sigmoid()],
    ids=["logits", "a sigmoid a class"],
)
def test_what_is_no_probability_fires(scores):
    (problem,) = probabilities(probe_of(scores, outputs="probabilities"))
    assert (problem.id, problem.severity) == ("not-probabilities", "error")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_of_any_precision_pass(dtype):
    scores = torch.randn(50, 43).softmax(1).to(dtype).float()
    assert probabilities(probe_of(scores, outputs="probabilities")) == []


def test_labels_are_neither():
    scores = nn.functional.one_hot(torch.arange(10) % 4, 4).float()
    assert probabilities(probe_of(scores, outputs="labels")) == []
