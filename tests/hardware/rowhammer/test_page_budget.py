from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.errors import ParameterError, UsageError
from casemate.hardware.memory import Memory, region
from casemate.hardware.rowhammer.page_budget import PageBudget
from casemate.hardware.rowhammer.pages import Reach
from casemate.hardware.rowhammer.template import PAGE
from rowhammer.hammering import ALL, memory, slowly_reachable, template

SMALL_CELL = st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1))
SMALL_CELLS = st.lists(SMALL_CELL, min_size=3, max_size=16, unique_by=lambda c: c[:3])


def fits(held, made, chosen, most):
    """Return whether any choice of pages lets all these bits flip, by trying each."""
    byte, bit = held.addresses(np.array(chosen, dtype=np.int64))
    up = 1 - held.read(np.array(chosen, dtype=np.int64))
    needed = [set() for _ in range(3)]
    for b, i, u in zip(byte.tolist(), bit.tolist(), up.tolist(), strict=True):
        needed[b // PAGE].add((b % PAGE, i, u))
    if most is not None and max(map(len, needed)) > most:
        return False
    columns = (made.offset.tolist(), made.bit.tolist(), made.up.tolist())
    on = [set() for _ in range(made.pages)]
    for page, *cell in zip(made.page.tolist(), *columns, strict=True):
        on[page].add(tuple(map(int, cell)))
    return any(
        all(need <= on[p] for need, p in zip(needed, pages, strict=True) if need)
        for pages in itertools.permutations(range(made.pages), 3)
    )


@given(
    cells=SMALL_CELLS,
    most=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_one_more_flip_is_possible_just_if_some_choice_of_pages_allows_it(cells, most, seed):
    held, made = memory(), template(cells, 5)
    rng = np.random.default_rng(seed)
    numbers = np.concatenate(list(Reach(held, made, ALL).pieces()))
    budget = PageBudget(Reach(held, made, ALL), most_per_page=most)
    asked = np.append(numbers, rng.integers(0, held.bits, 3))
    chosen = []
    for _ in range(6):
        wanted = [
            n not in chosen and n in numbers and fits(held, made, [*chosen, n], most)
            for n in asked.tolist()
        ]
        assert budget.possible(asked).tolist() == wanted
        if chosen and rng.random() < 0.25:
            budget.remove(chosen.pop(int(rng.integers(len(chosen)))))
        elif any(wanted):
            number = int(rng.choice(asked[wanted]))
            assert budget.can_add(number)
            budget.add(number)
            chosen.append(number)
        for number in asked[~budget.possible(asked)].tolist():
            assert not budget.can_add(number)
            with pytest.raises(UsageError, match="cannot flip besides"):
                budget.add(number)
        assert sorted(budget.chosen.tolist()) == sorted(chosen)
        assert len(budget) == len(chosen)
        # the pages that it names do flip them
        assert set(chosen) <= set(slowly_reachable(held, made, budget.pages))


def test_pages_in_the_way_move():
    """Only page 0 flips both bits of the model's second page; its first page must leave it."""
    held = Memory([region("w", torch.zeros(2 * PAGE), "int8", layer="w", role="weight")])
    made = template([(0, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 1)], 2)
    budget = PageBudget(Reach(held, made))
    first, second = 0, 8 * PAGE
    budget.add(first)
    assert budget.possible(np.array([second, second + 1, first + 1])).tolist() == [True] * 3
    budget.add(second + 1)
    assert budget.pages.tolist() == [1, 0]
    assert budget.possible(np.array([second, first + 1])).tolist() == [True, False]
    budget.add(second)
    assert budget.chosen.tolist() == [first, second + 1, second]
    budget.remove(second + 1)
    budget.remove(second)
    assert budget.pages.tolist() == [1, -1]
    assert budget.can_add(first + 1)


def test_the_most_flips_of_a_page_are_kept():
    held = Memory([region("w", torch.zeros(PAGE), "int8", layer="w", role="weight")])
    made = template([(0, 0, bit, 1) for bit in range(5)], 1)
    for most in (1, 3):
        budget = PageBudget(Reach(held, made), most_per_page=most)
        for bit in range(most):
            budget.add(bit)
        assert not budget.possible(np.arange(8)).any()


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_a_wrong_most_is_one_sentence(most):
    sentence = f"most_per_page must be a whole number from 1 to 2147483647, got {most!r}"
    with pytest.raises(ParameterError) as caught:
        PageBudget(Reach(memory(), template([], 1)), most_per_page=most)
    assert str(caught.value) == sentence
