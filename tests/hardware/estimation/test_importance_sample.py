"""Importance sampling against truth, and against what other designs would do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from casemate.errors import ParameterError
from casemate.hardware.estimation.importance import ImportanceSample, moments

sys.path.insert(0, str(Path(__file__).parent))
from truths import population, skewed


def campaign(values, scores, n, rng):
    faults = population(len(values))
    sample = ImportanceSample(faults, lambda numbers: values[numbers], scores, rng)
    sample.extend(n)
    return sample


@pytest.mark.parametrize("kind", ["good", "useless", "misleading"])
def test_the_mean_is_unbiased_whatever_the_scores(kind):
    values, tries = skewed(400), 4000
    rng = np.random.default_rng(0)
    noise = np.random.default_rng(1).random(400)
    scores = {"good": values + 0.05 * noise, "useless": noise, "misleading": 1 - values}[kind]
    means = [campaign(values, scores, 40, rng).estimate().mean for _ in range(tries)]
    error = np.std(means) / tries**0.5
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * error)


def test_the_variance_is_unbiased():
    values, tries = skewed(400), 4000
    scores = np.sqrt(values) + 0.1
    rng = np.random.default_rng(0)
    means, variances = [], []
    for _ in range(tries):
        sample = campaign(values, scores, 40, rng)
        means.append(sample.estimate().mean)
        n, order = sample.tried, sample._order
        tau = sample._rank_by[order[n]]
        kept = np.minimum(1, sample._size[order[:n]] / tau)
        variances.append(moments(sample._seen / kept / 400, kept).variance)
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.1)


def test_moments_of_terms_that_are_there_by_chance():
    # 3 terms that are there with their probabilities: all 8 cases
    each, kept = np.array([0.2, 1.0, 0.5]), np.array([0.3, 0.6, 1.0])
    variance = third = mean_variance = mean_third = 0.0
    for case in range(8):
        there = np.array([case >> i & 1 for i in range(3)], dtype=bool)
        chance = np.where(there, kept, 1 - kept).prod()
        off = (each[there] / kept[there]).sum() - each.sum()
        variance += chance * off**2
        third += chance * off**3
        found = moments(each[there] / kept[there], kept[there])
        mean_variance += chance * found.variance
        mean_third += chance * found.third
    assert mean_variance == pytest.approx(variance)
    assert mean_third == pytest.approx(third)


def test_good_scores_beat_a_simple_sample_many_times():
    values = skewed(4000)
    rng = np.random.default_rng(0)
    means = [campaign(values, values, 200, rng).estimate().mean for _ in range(500)]
    simple = values.var(ddof=1) / 200 * (1 - 200 / 4000)
    assert np.var(means) < simple / 8


def test_useless_scores_are_a_simple_sample():
    values, tries = skewed(400), 3000
    rng = np.random.default_rng(0)
    means = [campaign(values, np.zeros(400), 60, rng).estimate().mean for _ in range(tries)]
    simple = values.var(ddof=1) / 60 * (1 - 60 / 400)
    # sizes all alike: the mean is that of the sample but for the estimated population
    assert np.var(means) < 1.5 * simple + values.mean() ** 2 / 60


def test_a_fault_against_all_expectation_counts_no_more_than_ten_times():
    values = np.zeros(1000)
    values[0] = 1.0
    scores = np.ones(1000)
    scores[0] = 0.0
    means = [
        campaign(values, scores, 100, np.random.default_rng(k)).estimate().mean for k in range(900)
    ]
    assert 10 / 100 / 1.3 < max(means) <= 10 / 100 * 1.3
    assert min(means) == 0


def test_all_faults_give_the_exact_mean_and_extensions_change_nothing():
    values = skewed(300)
    scores = values + 0.01
    whole = campaign(values, scores, 300, np.random.default_rng(2))
    found = whole.estimate()
    assert found.mean == found.low == found.high == pytest.approx(values.mean())
    halves = campaign(values, scores, 40, np.random.default_rng(3))
    halves.extend(60)
    once = campaign(values, scores, 100, np.random.default_rng(3))
    assert halves.estimate() == once.estimate()
    assert once.tried == 100


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.zeros(3), r"scores has the shape \(3,\), but there are 5 faults"),
        (np.array([0, 1, 2, np.inf, 0]), "scores holds something else"),
        (np.array([0, 1, 2, -1.0, 0]), "scores holds something else"),
    ],
    ids=["shape", "infinite", "negative"],
)
def test_scores_that_are_none(scores, reason):
    with pytest.raises(ParameterError, match=reason):
        ImportanceSample(population(5), np.zeros_like, scores, np.random.default_rng(0))
