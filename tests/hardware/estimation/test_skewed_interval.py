"""The interval: its moments against closed forms, and its limits against known intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from casemate.hardware.estimation.interval import Moments, ends, sample_moments
from casemate.stats import Z95, wilson

UNIT = (0.0, 1.0)


def test_variance_is_that_of_a_sample_without_replacement():
    # of all samples of 3 out of 6 values: the mean of the estimates is the variance of the means
    values = np.array([0.0, 0.0, 0.1, 0.2, 0.5, 1.0])
    rng = np.random.default_rng(0)
    samples = np.array([rng.choice(values, 3, replace=False) for _ in range(20000)])
    estimated = np.mean([sample_moments(s, 6).variance for s in samples])
    exact = values.var(ddof=1) / 3 * (1 - 3 / 6)
    assert samples.mean(1).var() == pytest.approx(exact, rel=0.03)
    assert estimated == pytest.approx(exact, rel=0.03)


def test_third_cumulant_and_spread_of_a_bernoulli_sample():
    n, ones = 1000, 20
    values = np.r_[np.ones(ones), np.zeros(n - ones)]
    p = ones / n
    moments = sample_moments(values, 10**12)
    assert moments.variance == pytest.approx(p * (1 - p) / (n - 1), rel=1e-6)
    assert moments.third == pytest.approx(p * (1 - p) * (1 - 2 * p) / n**2, rel=1e-6)
    # about twice as many degrees of freedom as rare faults were met
    degrees = 2 * moments.variance**2 / moments.spread
    kurtosis = (1 - 3 * p * (1 - p)) / (p * (1 - p))
    assert degrees == pytest.approx(2 * n / (kurtosis - 1))
    assert degrees == pytest.approx(2 * ones, rel=0.1)


def test_normal_values_have_the_degrees_of_freedom_of_students_test():
    values = np.random.default_rng(0).normal(size=200)
    moments = sample_moments(values, 10**12)
    assert 2 * moments.variance**2 / moments.spread == pytest.approx(199, rel=0.15)


def test_a_sample_of_all_is_certain():
    moments = sample_moments(np.array([0.1, 0.9, 0.4]), 3)
    assert moments == Moments(variance=0.0, third=0.0, spread=0.0)
    assert ends(0.3, moments, size=math.inf, bounds=UNIT) == (0.3, 0.3)


def test_without_skew_it_is_students_interval():
    moments = Moments(variance=0.01**2, third=0.0, spread=2 * 0.01**4 / 9)
    half = t.ppf(0.975, 9) * 0.01
    low, high = ends(0.4, moments, size=10, bounds=UNIT)
    assert (low, high) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))


def test_the_long_tail_moves_it_as_johnson_does():
    variance, third = 0.01**2, 4e-7
    low, high = ends(0.2, Moments(variance=variance, third=third, spread=0.0), size=10, bounds=UNIT)
    move = (2 * Z95**2 + 1) / 6 * third / variance
    assert (low + high) / 2 == pytest.approx(0.2 + move)
    # the ends solve d^2 - 2 move d - z^2 V = 0, so that they lie on both sides of the mean
    assert (low - 0.2) * (high - 0.2) == pytest.approx(-(Z95**2) * variance)


def test_where_nothing_was_seen_it_is_wilsons():
    none = Moments(variance=0.0, third=0.0, spread=0.0)
    assert ends(0.0, none, size=80, bounds=UNIT) == pytest.approx(wilson(0, 80))
    assert ends(1.0, none, size=80, bounds=UNIT) == pytest.approx(wilson(80, 80))
    low, high = ends(0.0, none, size=80, bounds=(-1.0, 1.0))
    assert (low, high) == pytest.approx((-wilson(0, 80)[1], wilson(0, 80)[1]))


def test_it_stays_within_possible_values_and_grows_with_the_level():
    moments = Moments(variance=0.3**2, third=0.0, spread=0.0)
    assert ends(0.1, moments, size=10, bounds=UNIT)[0] == 0.0
    assert ends(0.9, moments, size=10, bounds=UNIT)[1] == 1.0
    small = Moments(variance=0.01**2, third=1e-7, spread=1e-10)
    narrow = ends(0.5, small, size=10, bounds=UNIT, level=0.9)
    wide = ends(0.5, small, size=10, bounds=UNIT, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
