from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memories import LIKELY
from scipy import stats

from casemate.errors import ParameterError, UsageError
from casemate.hardware.fault_models import BitFlips
from casemate.hardware.memory import Memory, region
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.hammered import Hammered
from casemate.hardware.rowhammer.page_budget import PageBudget
from casemate.hardware.rowhammer.synthetic import synthetic
from casemate.hardware.rowhammer.template import PAGE, Template
from rowhammer.hammering import ALL, memory, slowly_reachable, template


def test_only_chosen_tensors_and_no_padding_can_flip():
    place = np.arange(8 * PAGE)  # each on one page in one direction, on another in the other
    page, up = np.repeat([0, 1], len(place)), np.repeat([True, False], len(place))
    both = np.tile(place, 2)
    made = Template(page=page, offset=both // 8, bit=both % 8, up=up, pages=2)
    held = memory()
    for roles, names in ((("bias",), {"b"}), (("weight",), {"a", "c"})):
        numbers = Hammered(template=made, among=Everywhere(roles=roles)).numbers(held)
        assert {held.fault(int(n)).tensor for n in numbers} == names
        assert len(numbers) == sum(held[name].bits for name in names)


def test_each_bit_that_can_flip_is_drawn_as_often_as_any_other():
    made = synthetic(np.random.default_rng(10), pages=40, density=3)
    where = Hammered(template=made, among=ALL)
    numbers = where.numbers(memory())
    drawn = where.draw(memory(), np.random.default_rng(11), 20_000)
    found, counts = np.unique(drawn, return_counts=True)
    assert found.tolist() == numbers.tolist()
    assert len(found) == where.population(memory()) > 50
    assert stats.chisquare(counts).pvalue > LIKELY


def test_a_pickled_placement_reaches_the_same_bits():
    where = Hammered(template=synthetic(np.random.default_rng(0), pages=9, density=3000))
    where.population(memory())
    again = pickle.loads(pickle.dumps(where))  # noqa: S301
    assert again.template.digest == where.template.digest
    np.testing.assert_array_equal(again.numbers(memory()), where.numbers(memory()))


@given(seed=st.integers(0, 10**6), most=st.sampled_from([None, 1, 2]))
@settings(max_examples=20)
def test_different_flips_can_be_made_together(seed, most):
    made = synthetic(np.random.default_rng(seed), pages=6, density=300)
    where = Hammered(template=made, most_per_page=most, among=ALL)
    drawn = where.draw(memory(), np.random.default_rng(seed), 3, replace=False)
    assert len(set(drawn.tolist())) == 3
    page = memory().addresses(drawn)[0] // PAGE
    budget = PageBudget(where.reach(memory()), most_per_page=most)
    for number in drawn.tolist():
        budget.add(number)
    if most:
        assert np.bincount(page).max() <= most
    assert set(drawn.tolist()) <= set(slowly_reachable(memory(), made, budget.pages))


def test_sets_of_flips_are_drawn_evenly():
    """Two pages of one cell each: a bit on one of the model's pages, another on another one."""
    held = Memory([region("w", torch.zeros(3 * PAGE), "int8", layer="w", role="weight")])
    made = template([(0, 0, 0, 1), (1, 0, 1, 1)], 2)
    where = Hammered(template=made)
    rng = np.random.default_rng(12)
    drawn = np.array([where.draw(held, rng, 2, replace=False) for _ in range(600)])
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 2 * 3 * 2  # which page for which bit, in which order
    assert stats.chisquare(counts).pvalue > LIKELY


def test_all_flips_that_fit_are_found_and_no_more():
    """The last bit that fits is one in thousands, so drawing at random would not meet it."""
    held = Memory([region("w", torch.zeros(2 * PAGE), "int8", layer="w", role="weight")])
    crowd = [(0, offset, 0, 1) for offset in range(3000)]
    where = Hammered(template=template([*crowd, (1, 5, 1, 1)], 3))
    for seed in range(3):
        drawn = where.draw(held, np.random.default_rng(seed), 2, replace=False)
        assert np.isin(drawn, [5 * 8 + 1, 8 * PAGE + 5 * 8 + 1]).sum() == 1
    with pytest.raises(
        UsageError,
        match=(
            r"^3 flips at once do not fit on the Rowhammer template: after 2, no bit is left whose "
            r"page could still be chosen; ask for fewer, allow more flips a page or profile more"
        ),
    ):
        where.draw(held, np.random.default_rng(0), 3, replace=False)


def test_a_template_that_flips_nothing_is_one_sentence():
    held = Memory([region("w", torch.zeros(9), "int8", layer="w", role="weight")])
    where = Hammered(template=template([(0, 0, 0, 0)], 1))  # from 1 to 0
    assert where.population(held) == 0
    assert where.numbers(held).tolist() == []
    for replace in (True, False):
        with pytest.raises(UsageError, match="no cell of the Rowhammer template can flip a bit"):
            where.draw(held, np.random.default_rng(0), 1, replace=replace)


def test_cases_of_hammering_keep_to_the_direction_of_cells():
    made = synthetic(np.random.default_rng(13), pages=50, density=20, up_share=1)
    where = Hammered(template=made, most_per_page=None, among=ALL)
    cases = BitFlips(bits=3).cases(memory(), where, np.random.default_rng(14), 30)
    before = memory().raw(cases.region, cases.word)
    assert (cases.raw & before == before).all()  # no bit went from 1 to 0
    ones = sum(x.bit_count() for x in (cases.raw ^ before).tolist())
    assert ones == 3 * 30


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_a_wrong_most_is_one_sentence(most):
    sentence = f"most_per_page must be a whole number from 1 to 2147483647, got {most!r}"
    with pytest.raises(ParameterError) as caught:
        Hammered(template=template([], 1), most_per_page=most)
    assert str(caught.value) == sentence
