from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memories import LIKELY, huge, memory
from scipy import stats

from casemate.errors import UsageError
from casemate.hardware.placement import Everywhere
from casemate.hardware.strata import MOST_AT_ONCE, Bits, check_listed


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40), st.integers(0, 5)), min_size=1))
def test_progressions_are_counted_through(pieces):
    first, step, count = (np.array(a, dtype=np.int64) for a in zip(*pieces, strict=True))
    bits = Bits(first=first, step=step, count=count)
    wanted = [f + s * i for f, s, c in pieces for i in range(c)]
    assert bits.population == len(wanted)
    assert bits.numbers().tolist() == wanted
    assert [int(bits.at(np.array([i]))[0]) for i in range(len(wanted))] == wanted


def test_strata_are_each_bit_once_by_layer_and_place_in_the_word():
    held = memory()
    where = Everywhere(roles=("weight", "bias", "scale"))
    strata = where.strata(held)
    assert [s.name for s in strata] == [
        *(("a", bit) for bit in range(32)),
        *(("b", bit) for bit in range(16)),
    ]
    assert [s.population for s in strata] == [9] * 32 + [8] * 4 + [1] * 12
    for stratum in strata:
        numbers = stratum.numbers()
        assert len(numbers) == stratum.population
        regions, _, bits = held.locate(numbers)
        assert {held.regions[r].layer for r in regions} == {stratum.layer}
        assert set(bits.tolist()) == {stratum.bit}
        assert set(stratum.draw(np.random.default_rng(0), 50).tolist()) <= set(numbers.tolist())
    together = np.concatenate([s.numbers() for s in strata])
    np.testing.assert_array_equal(np.sort(together), where.numbers(held))


def test_a_stratum_is_drawn_evenly():
    stratum = Everywhere(roles=("weight", "scale"), layers=("b",)).strata(memory())[0]
    drawn = stratum.draw(np.random.default_rng(4), 8000)
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == stratum.population == 8
    assert stats.chisquare(counts).pvalue > LIKELY


def test_too_many_bits_are_not_listed():
    check_listed(MOST_AT_ONCE)
    with pytest.raises(UsageError, match=r"^3200000000 bits are too many to list at once"):
        Everywhere().numbers(huge())
