from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memories import LIKELY
from scipy import stats

from casemate.errors import UsageError
from casemate.hardware.memory import Memory, region
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer import pages as pages_module
from casemate.hardware.rowhammer.pages import Reach, laid_out, reachable
from casemate.hardware.rowhammer.synthetic import synthetic
from casemate.hardware.rowhammer.template import PAGE
from rowhammer.hammering import ALL, CELLS, memory, slowly_reachable, template


@given(cells=CELLS, seed=st.integers(0, 99), left_out=st.booleans())
def test_with_given_pages_the_cells_flip_what_has_the_value_that_they_leave(cells, seed, left_out):
    made = template(cells, 5)
    pages = laid_out(memory(), made, np.random.default_rng(seed))
    assert sorted(set(pages.tolist())) == sorted(pages.tolist())
    if left_out:
        pages[1] = -1
    found = reachable(memory(), made, pages)
    assert found.tolist() == slowly_reachable(memory(), made, pages)


def test_without_a_generator_pages_are_as_they_come():
    made = synthetic(np.random.default_rng(4), pages=3, density=2000)
    pages = laid_out(memory(), made)
    assert pages.tolist() == [0, 1, 2]
    found = reachable(memory(), made, pages)
    assert found.tolist() == slowly_reachable(memory(), made, pages)
    assert 1000 < len(found) < len(made)


def test_pages_are_drawn_evenly():
    made = template([], 4)
    rng = np.random.default_rng(5)
    drawn = np.array([laid_out(memory(), made, rng) for _ in range(2400)])
    assert stats.chisquare(np.unique(drawn @ [16, 4, 1], return_counts=True)[1]).pvalue > LIKELY


def test_no_page_flips_more_than_the_most():
    made = synthetic(np.random.default_rng(6), pages=5, density=12)
    pages = laid_out(memory(), made)
    every = reachable(memory(), made, pages)
    page = memory().addresses(every)[0] // PAGE
    seen = set()
    rng = np.random.default_rng(7)
    for _ in range(60):
        some = reachable(memory(), made, pages, most_per_page=2, rng=rng)
        assert (np.diff(some) > 0).all()
        counts = np.bincount(memory().addresses(some)[0] // PAGE, minlength=3)
        assert counts.tolist() == np.minimum(np.bincount(page, minlength=3), 2).tolist()
        seen |= set(some.tolist())
    assert seen == set(every.tolist())
    assert len(every) > 6


def test_a_template_of_too_few_pages_is_one_sentence():
    with pytest.raises(
        UsageError,
        match=(
            r"^the deployed model takes 3 pages of 4096 bytes, but the Rowhammer template was "
            r"profiled for 2; profile at least 3 pages$"
        ),
    ):
        laid_out(memory(), template([], 2))


def test_pages_that_hold_two_are_refused():
    for pages in ([0, 0, 1], [0, 1, 5], [0, 1]):
        with pytest.raises(ValueError, match="none of them twice"):
            reachable(memory(), template([], 5), np.array(pages))
    with pytest.raises(ValueError, match="drawn by rng"):
        reachable(memory(), template([], 5), np.arange(3), most_per_page=1)


def anywhere(held, made):
    """Return what can flip on some page, by laying each page of the model on each profiled one."""
    found = set()
    for page, mine in itertools.product(range(made.pages), range(3)):
        pages = np.full(3, -1)
        pages[mine] = page
        found |= set(slowly_reachable(held, made, pages))
    return sorted(found)


@given(cells=CELLS)
@settings(max_examples=40)
def test_a_bit_can_flip_if_any_page_has_a_cell_for_it(cells):
    made = template(cells, 5)
    found = anywhere(memory(), made)
    reach = Reach(memory(), made, ALL)
    assert reach.population == len(found)
    assert np.concatenate(list(reach.pieces())).tolist() == found
    mask = reach.allowed(np.arange(memory().bits))
    assert np.flatnonzero(mask).tolist() == found


def test_pieces_and_parts_make_no_difference(monkeypatch):
    made = synthetic(np.random.default_rng(8), pages=4, density=3000)
    wanted = Reach(memory(), made, ALL)
    drawn = wanted.draw(np.random.default_rng(0), 100)
    numbers = np.concatenate(list(wanted.pieces()))
    monkeypatch.setattr(pages_module, "_PIECE", PAGE)
    monkeypatch.setattr(pages_module, "_DRAWN", 7)
    pages_module._REACHES.clear()
    again = Reach(memory(), made, ALL)
    assert again.population == wanted.population
    np.testing.assert_array_equal(np.concatenate(list(again.pieces())), numbers)
    np.testing.assert_array_equal(again.draw(np.random.default_rng(0), 100), drawn)
    assert set(drawn.tolist()) <= set(numbers.tolist())


def test_marks_are_kept_while_the_memory_is():
    held = Memory([region("w", torch.zeros(9), "int8", layer="w", role="weight")])
    made = synthetic(np.random.default_rng(0), pages=9, density=3000)
    marks = Reach(held, made)._marks
    assert Reach(held, made)._marks is marks
    assert Reach(held, made, Everywhere(layers=("w",)))._marks is not marks
    kept = len(pages_module._REACHES)
    del held
    gc.collect()
    assert len(pages_module._REACHES) == kept - 1
