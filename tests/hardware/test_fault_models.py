from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memories import LIKELY, huge, peak
from scipy import stats

from casemate.errors import ParameterError, UsageError
from casemate.hardware.fault_models import BitErrorRate, BitFlips, Burst, RandomValue, StuckAt
from casemate.hardware.memory import Memory, region
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.hammered import Hammered
from casemate.hardware.rowhammer.synthetic import synthetic

ALL = Everywhere(roles=("weight", "bias", "scale"))
MODELS = (
    BitFlips(),
    BitFlips(bits=3),
    Burst(length=7),
    Burst(length=100),
    StuckAt(value=0),
    StuckAt(value=1),
    RandomValue(),
    BitErrorRate(rate=0.01),
    BitErrorRate(rate=0.5),
)


@cache
def memory():
    rng = torch.Generator().manual_seed(0)
    return Memory(
        [
            region(
                "a.weight", torch.randn(3, 2, generator=rng), "float32", layer="a", role="weight"
            ),
            region("b.weight", torch.arange(-4.0, 3.0), "int4", layer="b", role="weight"),
            region("b.scale", torch.tensor(0.25), "float16", layer="b", role="scale"),
            region("c.bias", torch.tensor([-7.0, 9.0]), "int32", layer="c", role="bias"),
            region(
                "d.weight", torch.randn(9, generator=rng) * 50, "int8", layer="d", role="weight"
            ),
        ]
    )


def with_case(held, cases, case):
    """Return the memory as one case leaves it."""
    raw = {r.name: r.word.raw(r.words).clone() for r in held.regions}
    for i in np.flatnonzero(cases.case == case):
        raw[held.regions[cases.region[i]].name][cases.word[i]] = int(cases.raw[i])
    return held.with_words({r.name: r.word.carried(raw[r.name]) for r in held.regions})


def inverted(held, cases, case):
    """Return the bits of the image that one case inverts, as addresses in bits."""
    image = held.image() ^ with_case(held, cases, case).image()
    return np.flatnonzero(np.unpackbits(image, bitorder="little"))


def address(held, numbers):
    byte, bit = held.addresses(numbers)
    return 8 * byte + bit


@pytest.mark.parametrize("model", MODELS, ids=str)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 6))
def test_cases_are_well_formed(model, seed, n):
    held = memory()
    cases = model.cases(held, ALL, np.random.default_rng(seed), n)
    assert cases.count == n
    assert (np.diff(cases.case) >= 0).all()
    words = list(zip(cases.case.tolist(), cases.region.tolist(), cases.word.tolist(), strict=True))
    assert len(words) == len(set(words))
    assert all(c < n and w < held.regions[r].count for c, r, w in words)
    width = np.array([r.word.bits for r in held.regions])[cases.region]
    assert ((cases.raw >= 0) & (cases.raw < 1 << width)).all()
    assert (held.raw(cases.region, cases.word) != cases.raw).all()


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 40), n=st.integers(1, 4))
def test_so_many_different_bits_are_inverted_in_each_case(seed, bits, n):
    held = memory()
    where = Everywhere(layers=("b", "d"))
    cases = BitFlips(bits=bits).cases(held, where, np.random.default_rng(seed), n)
    there = set(address(held, where.numbers(held)).tolist())
    for c in range(n):
        changed = inverted(held, cases, c).tolist()
        assert len(changed) == bits
        assert set(changed) <= there


def test_single_flips_are_those_that_the_placement_draws():
    held = memory()
    drawn = ALL.draw(held, np.random.default_rng(1), 30)
    cases = BitFlips().cases(held, ALL, np.random.default_rng(1), 30)
    for c in range(30):
        assert inverted(held, cases, c).tolist() == address(held, drawn[c : c + 1]).tolist()


@given(seed=st.integers(0, 10**6), length=st.integers(1, 250))
def test_a_burst_is_neighbors_by_address_cut_where_the_tensor_ends(seed, length):
    held = memory()
    start = ALL.draw(held, np.random.default_rng(seed), 5)
    cases = Burst(length=length).cases(held, ALL, np.random.default_rng(seed), 5)
    for c in range(5):
        first = int(address(held, start[c : c + 1])[0])
        tensor = held[held.fault(int(start[c])).tensor]
        end = min(first + length, 8 * tensor.address + tensor.bits)
        assert inverted(held, cases, c).tolist() == list(range(first, end))


@pytest.mark.parametrize("value", [0, 1])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_stuck_bit_reads_its_value_and_cannot_be_stuck_again(value, seed):
    held = memory()
    model = StuckAt(value=value)
    site = ALL.draw(held, np.random.default_rng(seed), 4)
    cases = model.cases(held, ALL, np.random.default_rng(seed), 4)
    assert cases.case.tolist() == np.flatnonzero(held.read(site) != value).tolist()
    for c in range(4):
        stuck = with_case(held, cases, c)
        others = np.setdiff1d(np.arange(held.bits), site[c])
        assert stuck.read(site[c : c + 1]).tolist() == [value]
        np.testing.assert_array_equal(stuck.read(others), held.read(others))
        assert c not in model.cases(stuck, ALL, np.random.default_rng(seed), 4).case


def test_a_bit_stuck_at_what_it_is_counts_and_changes_nothing():
    held = Memory([region("z", torch.zeros(40), "int8", layer="z", role="weight")])
    cases = StuckAt(value=0).cases(held, ALL, np.random.default_rng(0), 50)
    assert cases.count == 50
    assert len(cases.case) == 0
    ones = StuckAt(value=1).cases(held, ALL, np.random.default_rng(0), 50)
    assert ones.case.tolist() == list(range(50))


def test_a_random_value_is_any_word_as_likely_as_any_other():
    held = Memory([region("w", torch.tensor([5.0]), "int4", layer="w", role="weight")])
    n = 16_000
    cases = RandomValue().cases(held, ALL, np.random.default_rng(2), n)
    counts = np.bincount(cases.raw, minlength=16)
    assert counts[5] == 0  # a word that is drawn as it was is no change
    counts[5] = n - len(cases.case)
    assert stats.chisquare(counts).pvalue > LIKELY


def test_words_are_replaced_in_proportion_to_their_bits_and_up_to_the_highest_bit():
    held = memory()
    cases = RandomValue().cases(held, ALL, np.random.default_rng(3), 20_000)
    wanted = np.array([r.bits for r in held.regions]) / held.bits
    found = np.bincount(cases.region, minlength=len(held.regions)) / 20_000
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert cases.raw[cases.region == 0].max() >= 1 << 31


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_counts_of_bit_errors_are_binomial_and_each_bit_has_the_rate(rate):
    held = Memory([region("w", torch.zeros(10), "int4", layer="w", role="weight")])
    n = 4000
    cases = BitErrorRate(rate=rate).cases(held, ALL, np.random.default_rng(4), n)
    bits = (cases.raw[:, None] >> np.arange(4)) & 1  # of words that were 0
    flipped = np.zeros((n, 10, 4), dtype=np.int64)
    flipped[cases.case, cases.word] = bits
    counts = np.bincount(flipped.sum((1, 2)), minlength=41)
    expected = n * stats.binom.pmf(np.arange(41), 40, rate)
    often = expected > 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > LIKELY
    each = flipped.sum(0).ravel()
    spread = (n * rate * (1 - rate)) ** 0.5
    assert (np.abs(each - n * rate) < 4.5 * spread).all()
    # independent: neighbors are no more often inverted together than by chance
    pairs = (flipped[:, :, 0] * flipped[:, :, 1]).mean()
    assert pairs == pytest.approx(rate**2, abs=4.5 * (rate**2 * (1 - rate**2) / (10 * n)) ** 0.5)


def test_no_bit_errs_at_rate_0_and_every_one_at_rate_1():
    held = memory()
    rng = np.random.default_rng(0)
    assert len(BitErrorRate(rate=0).cases(held, ALL, rng, 3).case) == 0
    every = BitErrorRate(rate=1).cases(held, ALL, rng, 1)
    assert inverted(held, every, 0).tolist() == address(held, np.arange(held.bits)).tolist()


@pytest.mark.parametrize(("rate", "most"), [(1e-9, 1 << 20), (1e-6, 4 << 20)])
def test_bit_errors_in_a_hundred_million_words_take_memory_for_the_flips_only(rate, most):
    held = huge()
    rng = np.random.default_rng(5)
    found = []
    assert peak(lambda: found.append(BitErrorRate(rate=rate).cases(held, ALL, rng, 4))) < most
    mean = 4 * rate * held.bits
    assert abs(len(found[0].case) - mean) < 5 * mean**0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: BitFlips(bits=0),
            "bits must be a whole number from 1 to 2147483647, got 0",
        ),
        (
            lambda: BitFlips(bits=True),
            "bits must be a whole number from 1 to 2147483647, got True",
        ),
        (
            lambda: Burst(length=1.5),
            "length must be a whole number from 1 to 2147483647, got 1.5",
        ),
        (lambda: StuckAt(value=2), "value must be a whole number from 0 to 1, got 2"),
        (lambda: BitErrorRate(rate=1.1), "rate must be a probability from 0 to 1, got 1.1"),
        (
            lambda: BitErrorRate(rate=float("nan")),
            "rate must be a probability from 0 to 1, got nan",
        ),
        (lambda: BitErrorRate(rate="1"), "rate must be a probability from 0 to 1, got '1'"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(make, sentence):
    with pytest.raises(ParameterError) as caught:
        make()
    assert str(caught.value) == sentence


def test_more_flips_than_bits_are_one_sentence():
    with pytest.raises(UsageError, match="29 different bits are asked for"):
        BitFlips(bits=29).cases(memory(), Everywhere(layers=("b",)), np.random.default_rng(0), 1)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (Burst(length=2), "a burst"),
        (RandomValue(), "a random value"),
        (BitErrorRate(rate=0.1), "a bit error rate"),
    ],
)
def test_hammering_makes_single_flips_only(model, fault):
    rng = np.random.default_rng(0)
    where = Hammered(template=synthetic(rng, pages=8, density=4000), among=ALL)
    with pytest.raises(UsageError, match=rf"^{fault} changes bits that lie together, and Hammered"):
        model.cases(memory(), where, rng, 1)
    assert len(BitFlips().cases(memory(), where, rng, 10).case) == 10
    assert StuckAt(value=1).cases(memory(), where, rng, 10).count == 10
