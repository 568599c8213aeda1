from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from casemate.errors import ParameterError
from casemate.hardware.cases import flips
from casemate.hardware.estimation.exhaustive import every, exhaustive
from casemate.hardware.estimation.harm import Harm

sys.path.insert(0, str(Path(__file__).parent))
from truths import IMAGES, population, skewed, truth


def test_it_is_the_exact_mean_and_tells_how_far_it_is():
    values, told = skewed(1000), []
    found = exhaustive(
        population(1000), lambda n: values[n], at_once=300, progress=lambda *p: told.append(p)
    )
    assert found.mean == found.low == found.high == pytest.approx(values.mean(), rel=1e-12)
    assert told == [(300, 1000), (600, 1000), (900, 1000), (1000, 1000)]
    assert found.measurement("corruption").method == "exact"


def test_parts_are_all_faults_in_order():
    parts = list(every(population(10, first=5), lambda n: n * 2.0, at_once=4))
    assert np.concatenate([n for n, _ in parts]).tolist() == list(range(5, 15))
    assert np.concatenate([v for _, v in parts]).tolist() == [2.0 * n for n in range(5, 15)]


def test_without_faults_there_is_no_mean():
    with pytest.raises(ParameterError, match="faults holds no fault"):
        exhaustive(population(0), np.zeros_like)


def test_values_of_faults_are_what_flips_do_to_predictions():
    held, tried = truth(), []
    p, numbers = held.propagator, held.numbers[5::997]
    labels = (p.labels + (np.arange(IMAGES) % 4 == 0)) % 3  # wrong on a fourth

    def flipped(bits):
        return p.effects(flips(p.memory, np.arange(len(bits)), bits, len(bits)))

    harm = Harm(flipped, p.labels, labels, told=tried.append)
    assert harm.corruption(numbers[:0]).shape == (0,)
    twice = numbers[[*range(0, len(numbers), 2), *range(len(numbers)), 0]]  # in no order
    for number, share, drop in zip(twice, harm.corruption(twice), harm.drop(twice), strict=True):
        effects = p.effects(flips(p.memory, np.array([0]), np.array([number]), 1))
        after = p.labels.copy()
        after[effects.image] = effects.label
        assert share == (after != p.labels).mean()
        assert drop == pytest.approx((p.labels == labels).mean() - (after == labels).mean())
    assert harm.tried == len(numbers) == tried[-1]
    harm.drop(twice)
    assert len(tried) == 1  # nothing is tried again
