from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.errors import ParameterError
from casemate.hardware.rowhammer.template import PROFILES, Template
from rowhammer.hammering import CELLS, template


def test_profiles_are_densities_and_shares():
    assert PROFILES["I_1"].density == pytest.approx(3.97, abs=0.01)
    assert all(0 <= p.up_share <= 1 and 0 < p.density < 8 for p in PROFILES.values())


@given(cells=CELLS, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_the_order_of_cells_does_not_matter_and_each_cell_does(cells, seed):
    made = template(cells, 5)
    mixed = template(np.random.default_rng(seed).permutation(np.array(cells).reshape(-1, 4)), 5)
    assert made.digest == mixed.digest
    assert made.digest != template(cells, 6).digest
    if cells:
        page, offset, bit, up = cells[0]
        assert made.digest != template([(page, offset, bit, 1 - up), *cells[1:]], 5).digest
        assert made.digest != template(cells[1:], 5).digest
    for code in range(64):
        there = [c[0] for c in cells if 2 * (8 * c[1] + c[2]) + c[3] == code]
        assert made.pages_with(code).tolist() == sorted(there)
    for page in range(5):
        wanted = [2 * (8 * c[1] + c[2]) + c[3] for c in cells if c[0] == page]
        assert sorted(made.codes_on(page).tolist()) == sorted(wanted)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([(5, 0, 0, 0)], "cell 0 has the page 5, which is not from 0 to 4; "),
        ([(0, 0, 0, 0), (0, 4096, 0, 0)], "cell 1 has the offset 4096, which is not from 0 to "),
        ([(0, -1, 0, 0)], "cell 0 has the offset -1, which is not from 0 to 4095; "),
        ([(0, 0, 8, 0)], "cell 0 has the bit 8, which is not from 0 to 7; correct it or leave it"),
        ([(0, 1, 2, 0), (0, 0, 0, 1), (0, 1, 2, 1)], "cell 2 is there twice; correct it or leave"),
    ],
)
def test_a_cell_that_cannot_be_is_one_sentence(cells, sentence):
    with pytest.raises(ParameterError) as caught:
        template(cells, 5)
    assert str(caught.value).startswith(sentence)


def test_arrays_that_are_no_cells_are_one_sentence():
    whole = np.array([1, 2])
    with pytest.raises(ParameterError, match=r"^page must have one number a cell, as offset, bit"):
        Template(page=whole, offset=whole, bit=whole, up=whole[:1], pages=5)
    with pytest.raises(ParameterError, match=r"^page must have whole numbers, as offset and bit"):
        Template(page=whole, offset=whole / 2, bit=whole, up=whole == 1, pages=5)
