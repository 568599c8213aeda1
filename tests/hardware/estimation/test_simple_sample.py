from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from casemate.hardware.estimation.simple import SimpleSample

sys.path.insert(0, str(Path(__file__).parent))
from truths import population, skewed


def test_the_mean_is_unbiased_and_its_variance_the_closed_form():
    values, n, tries = skewed(400), 60, 3000
    rng = np.random.default_rng(0)
    means = []
    for _ in range(tries):
        sample = SimpleSample(population(400), lambda numbers: values[numbers], rng)
        sample.extend(n)
        means.append(sample.estimate().mean)
    variance = values.var(ddof=1) / n * (1 - n / 400)
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * (variance / tries) ** 0.5)
    assert np.var(means) == pytest.approx(variance, rel=0.12)


def test_faults_are_tried_once_and_extensions_go_on_where_it_stopped():
    asked = []

    def values(numbers):
        asked.extend(numbers.tolist())
        return np.zeros(len(numbers))

    sample = SimpleSample(population(50, first=100), values, np.random.default_rng(0))
    sample.extend(20)
    sample.extend(25)
    assert len(asked) == len(set(asked)) == sample.tried == 45
    sample.extend(20)
    assert sorted(asked) == list(range(100, 150))


def test_all_faults_give_the_exact_mean():
    values = skewed(50)
    sample = SimpleSample(population(50), lambda n: values[n], np.random.default_rng(0))
    sample.extend(50)
    found = sample.estimate()
    assert found.mean == found.low == found.high == pytest.approx(values.mean())
    assert found.measurement("corruption").method == "exact"


def test_faults_without_effect_still_leave_room_for_rare_ones():
    sample = SimpleSample(population(10**6), lambda n: np.zeros(len(n)), np.random.default_rng(0))
    sample.extend(1000)
    found = sample.estimate()
    assert found.mean == found.low == 0
    assert 0.003 < found.high < 0.004


def test_an_estimate_becomes_a_measurement():
    values = skewed(400)
    sample = SimpleSample(population(400), lambda n: values[n], np.random.default_rng(0))
    sample.extend(60)
    found = sample.estimate()
    figure = found.measurement("corruption by a fault")
    assert (figure.value, figure.low, figure.high) == (found.mean, found.low, found.high)
    assert (figure.n, figure.method, figure.unit) == (60, "simple", "1")
    assert found.half_width == max(found.high - found.mean, found.mean - found.low)
