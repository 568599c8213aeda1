from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from casemate.errors import ParameterError
from casemate.hardware.estimation.simple import SimpleSample
from casemate.hardware.estimation.stopping import until
from casemate.hardware.estimation.stratified import StratifiedSample

sys.path.insert(0, str(Path(__file__).parent))
from truths import population, skewed


def sample(size=20000, seed=0):
    values = skewed(size)
    return SimpleSample(population(size), lambda n: values[n], np.random.default_rng(seed))


def test_it_stops_when_the_interval_is_narrow_enough_and_not_long_after():
    seen = []
    found = until(sample(), tolerance=0.003, budget=20000, progress=seen.append)
    assert found.met
    assert found.estimate.half_width <= 0.003
    assert found.looks == len(seen) <= 5
    assert all(e.half_width > 0.003 for e in seen[:-1])
    # the width falls as the root of the number of faults
    assert found.estimate.half_width > 0.002


def test_a_relative_tolerance_is_a_share_of_the_mean():
    found = until(sample(), tolerance=0.15, relative=True, budget=20000)
    assert found.met
    assert found.estimate.half_width <= 0.15 * found.estimate.mean
    assert found.estimate.tried < 20000


def test_the_budget_is_never_passed():
    found = until(sample(), tolerance=1e-5, budget=777, first=100)
    assert not found.met
    assert found.estimate.tried == 777


def test_all_faults_meet_every_tolerance():
    found = until(sample(300), tolerance=1e-12, budget=10**6, first=10)
    assert found.met
    assert found.estimate.tried == 300
    assert found.estimate.half_width == 0


def test_no_effect_at_all_never_meets_a_relative_tolerance():
    none = SimpleSample(population(10**6), lambda n: np.zeros(len(n)), np.random.default_rng(0))
    found = until(none, tolerance=0.5, relative=True, budget=5000)
    assert not found.met
    assert found.estimate.tried == 5000


@pytest.mark.parametrize("tolerance", [0, -0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_not_positive_is_refused(tolerance):
    with pytest.raises(ParameterError, match=r"tolerance is .*, but must be a positive number"):
        until(sample(), tolerance=tolerance, budget=100)


def test_a_budget_that_allows_no_estimate_is_refused():
    with pytest.raises(ParameterError, match="budget is 0, but at least one fault must be tried"):
        until(sample(), tolerance=0.1, budget=0)
    strata = [population(50, f"{h}", 50 * h) for h in range(6)]
    stratified = StratifiedSample(strata, lambda n: np.zeros(len(n)), np.random.default_rng(0))
    with pytest.raises(ParameterError, match="budget is 23, but the estimate takes at least 24"):
        until(stratified, tolerance=0.1, budget=23)
    assert until(stratified, tolerance=1e-9, budget=24).estimate.tried == 24
