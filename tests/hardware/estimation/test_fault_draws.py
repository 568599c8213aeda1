"""Populations of bits, and draws from them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.hardware.estimation.faults import Draws, bits_of, strata_of

sys.path.insert(0, str(Path(__file__).parent))
from truths import truth


@given(population=st.integers(1, 60), takes=st.lists(st.integers(0, 25), max_size=6))
def test_ranks_come_once_each_until_none_is_left(population, takes):
    draws = Draws(population, np.random.default_rng(0))
    seen = []
    for count in takes:
        taken = draws.take(count)
        assert len(taken) == min(count, population - len(seen))
        seen += taken.tolist()
        assert draws.left == population - len(seen)
    assert len(set(seen)) == len(seen)
    assert all(0 <= rank < population for rank in seen)


@pytest.mark.parametrize("takes", [(3,), (1, 2), (2, 5), (1, 1, 1, 4)], ids=str)
def test_every_rank_is_as_likely_at_every_place(takes):
    population, tries = 9, 6000
    counts = np.zeros((sum(takes), population))
    rng = np.random.default_rng(1)
    for _ in range(tries):
        draws = Draws(population, rng)
        drawn = np.concatenate([draws.take(count) for count in takes])
        counts[np.arange(len(drawn)), drawn] += 1
    # five standard errors of a binomial share
    off = np.abs(counts / tries - 1 / population)
    assert off.max() < 5 * np.sqrt(1 / population / tries)


def test_a_large_population_takes_no_memory_of_its_size():
    draws = Draws(10**15, np.random.default_rng(0))
    taken = np.concatenate([draws.take(1000) for _ in range(3)])
    assert len(np.unique(taken)) == 3000
    assert 0.45 < taken.mean() / 10**15 < 0.55


def test_bits_of_regions_are_their_numbers_in_order():
    memory = truth().propagator.memory
    regions = memory.regions[2:3] + memory.regions[5:7]
    faults = bits_of(memory, regions)
    numbers = faults.at(np.arange(faults.population))
    expected = [n for r in regions for n in range(*memory.span(r.name))]
    assert numbers.tolist() == expected


def test_strata_are_bit_positions_of_tensors_and_cover_all_bits_once():
    memory = truth().propagator.memory
    strata = strata_of(memory, memory.regions)
    numbers = [s.at(np.arange(s.population)) for s in strata]
    assert sorted(np.concatenate(numbers).tolist()) == list(range(memory.bits))
    for stratum, mine in zip(strata, numbers, strict=True):
        region, _, bit = memory.locate(mine)
        assert len(set(region.tolist())) == len(set(bit.tolist())) == 1
        assert stratum.group == memory.regions[region[0]].name
        assert stratum.name == f"{stratum.group} bit {bit[0]}"
