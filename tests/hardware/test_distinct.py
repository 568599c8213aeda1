from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memories import LIKELY
from scipy import stats

from casemate.hardware.distinct import distinct


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_each_set_of_different_numbers_is_as_likely_in_each_order(k):
    rng = np.random.default_rng(3)
    drawn = [tuple(distinct(rng, 5, k).tolist()) for _ in range(2400)]
    orders = dict.fromkeys(itertools.permutations(range(5), k), 0)
    for order in drawn:
        orders[order] += 1  # and no other one
    assert stats.chisquare(list(orders.values())).pvalue > LIKELY


@given(population=st.integers(0, 300), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_different_numbers_are_different_and_in_range(population, share, seed):
    n = round(share * population)
    drawn = distinct(np.random.default_rng(seed), population, n)
    assert len(drawn) == len(set(drawn.tolist())) == n
    assert ((drawn >= 0) & (drawn < population)).all()
