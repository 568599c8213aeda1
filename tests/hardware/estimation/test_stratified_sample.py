"""Allocation against Neyman's formula, and the two-phase estimate against truth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from casemate.errors import ParameterError
from casemate.hardware.estimation.allocation import neyman, pilot_sizes
from casemate.hardware.estimation.stratified import StratifiedSample

sys.path.insert(0, str(Path(__file__).parent))
from truths import population

SIZES = np.array([1000, 300, 500, 40])


def test_allocation_is_neymans_on_known_variances():
    sizes, deviations = np.array([1000, 300, 500]), np.array([0.1, 0.5, 0.02])
    given = neyman(200, sizes, deviations, np.zeros(3, dtype=int))
    exact = 200 * sizes * deviations / (sizes * deviations).sum()
    assert given.sum() == 200
    assert np.abs(given - exact).max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_no_other_allocation_in_whole_numbers_has_less_variance(seed):
    rng = np.random.default_rng(seed)
    sizes, deviations = rng.integers(2, 12, 3), rng.random(3) ** 2
    total = int(rng.integers(3, sizes.sum()))

    def variance(n):
        return (sizes**2 * deviations**2 / n * (1 - n / sizes)).sum()

    choices = [
        np.array([a, b, total - a - b])
        for a in range(1, sizes[0] + 1)
        for b in range(1, sizes[1] + 1)
        if 1 <= total - a - b <= sizes[2]
    ]
    given = neyman(total, sizes, deviations, np.zeros(3, dtype=int))
    assert variance(given) == pytest.approx(min(map(variance, choices)))


def test_allocation_in_two_steps_is_that_in_one_and_keeps_to_what_there_is():
    deviations = np.array([0.1, 0.5, 0.0, 3.0])
    first = neyman(100, SIZES, deviations, np.zeros(4, dtype=int))
    second = neyman(150, SIZES, deviations, first)
    assert (first + second).tolist() == neyman(
        250, SIZES, deviations, np.zeros(4, dtype=int)
    ).tolist()
    assert (first + second)[3] == 40
    assert first[2] == 1
    everything = neyman(10**5, SIZES, deviations, np.zeros(4, dtype=int))
    assert everything.tolist() == SIZES.tolist()


def test_the_pilot_tries_each_stratum_and_large_ones_by_their_root():
    sizes = pilot_sizes(100, np.array([10000, 2500, 1, 2500]), 2)
    assert sizes.tolist() == [50, 25, 1, 25]


def strata():
    firsts = np.cumsum([0, *SIZES[:-1]])
    return [
        population(int(n), f"stratum {h}", int(first))
        for h, (n, first) in enumerate(zip(SIZES, firsts, strict=True))
    ]


def rare():
    """Return values that matter once in a hundred, and in a small stratum half of the time."""
    rng = np.random.default_rng(5)
    share = np.repeat([0.01, 0.05, 0.0, 0.5], SIZES)
    return (rng.random(SIZES.sum()) < share).astype(float)


def test_the_mean_is_unbiased_though_the_pilot_decides():
    values, tries = rare(), 3000
    rng = np.random.default_rng(0)
    means, biased = [], []
    for _ in range(tries):
        sample = StratifiedSample(strata(), lambda numbers: values[numbers], rng)
        sample.extend(150)
        found = sample.estimate()
        means.append(found.mean)
        # what pooling pilot and later faults would have given
        pooled = [np.concatenate(p).mean() for p in zip(sample._first, sample._later, strict=True)]
        biased.append((np.array(pooled) * SIZES).sum() / SIZES.sum())
    error = np.std(means) / tries**0.5
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * error)
    assert np.mean(biased) < values.mean() - 4 * error  # so that the test could have failed


def test_the_variance_is_estimated_right_in_the_mean():
    values, tries = rare(), 1500
    rng = np.random.default_rng(1)
    means, halves = [], []
    for _ in range(tries):
        sample = StratifiedSample(strata(), lambda numbers: values[numbers], rng)
        sample.extend(400)
        found = sample.estimate()
        means.append(found.mean)
        halves.append((found.high - found.low) / 2)
    # at 400 faults the interval is close to the normal one
    assert np.median(halves) == pytest.approx(2.05 * np.std(means), rel=0.15)


def test_a_stratum_without_variance_in_the_pilot_is_tried_further():
    values = rare()
    sample = StratifiedSample(strata(), lambda n: values[n], np.random.default_rng(0))
    sample.extend(200)
    before = sample.estimate().strata[2].tried
    sample.extend(200)
    assert sample.estimate().strata[2].tried > before


def test_all_faults_give_the_exact_mean_and_full_strata_no_variance():
    values = rare()
    sample = StratifiedSample(strata(), lambda n: values[n], np.random.default_rng(0))
    sample.extend(10**6)
    found = sample.estimate()
    assert found.tried == found.population == SIZES.sum()
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(found.high)
    assert [s.population for s in found.strata] == SIZES.tolist()


def test_extensions_try_as_many_faults_as_asked_and_none_twice():
    asked = []

    def values(numbers):
        asked.extend(numbers.tolist())
        return np.zeros(len(numbers))

    sample = StratifiedSample(strata(), values, np.random.default_rng(0))
    for count in (sample.least, 3, 100, 1, 400):
        before = sample.tried
        sample.extend(count)
        assert sample.tried == before + count
    assert len(asked) == len(set(asked)) == sample.tried


def test_without_faults_there_is_nothing_to_estimate():
    with pytest.raises(ParameterError, match="strata holds no fault"):
        StratifiedSample([population(0)], np.zeros_like, np.random.default_rng(0))
