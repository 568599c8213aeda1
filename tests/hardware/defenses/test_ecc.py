from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.hardware.cases import flips
from casemate.hardware.defenses.ecc import SECDED, columns, wrong_bits
from casemate.hardware.defenses.guarding import split
from casemate.hardware.memory import Memory, region


@pytest.fixture(scope="module")
def memory():
    return Memory(
        [
            region("a", torch.arange(-20.0, 20.0), "int8", layer="a", role="weight"),
            region("b", torch.randn(5), "float32", layer="b", role="bias"),
        ]
    )


def inverted(memory, *sets):
    case = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    return flips(memory, case, np.concatenate([np.array(s) for s in sets]), len(sets))


def same(one, other):
    return all(
        np.array_equal(getattr(one, k), getattr(other, k))
        for k in ("count", "case", "region", "word", "raw")
    )


def test_the_code_corrects_one_and_notices_two_by_its_columns():
    every = [*columns().tolist(), *(1 << b for b in range(8))]
    assert len(set(every)) == 72
    assert all(c.bit_count() % 2 == 1 for c in every)
    # no two columns' sum is a third one: it has an even number of ones
    assert not {a ^ b for a, b in combinations(every, 2)} & {0, *every}


def test_every_single_flip_is_corrected(memory):
    sets = [[n] for n in range(memory.bits)]
    out = SECDED().guarded(memory, inverted(memory, *sets))
    assert not len(out.cases.case)
    assert out.detected.all()
    assert out.repaired.all()


def test_two_flips_in_a_word_are_noticed_and_stay(memory):
    cases = inverted(memory, *combinations(range(64), 2))
    out = SECDED().guarded(memory, cases)
    assert out.detected.all()
    assert not out.repaired.any()
    assert same(out.cases, cases)


def test_flips_in_different_words_are_all_corrected(memory):
    out = SECDED().guarded(memory, inverted(memory, [3, 70, 200, memory.bits - 1]))
    assert out.repaired.all()


@given(st.lists(st.integers(0, 63), min_size=3, max_size=6, unique=True))
def test_more_flips_do_what_a_decoder_of_the_whole_word_does(bits):
    memory = Memory([region("a", torch.arange(8.0), "int8", layer="a", role="weight")])
    generator = columns().astype(np.int64)
    word = np.unpackbits(memory.image(), bitorder="little").astype(np.int64)
    check = np.bitwise_xor.reduce(generator[word == 1])
    faulty = word.copy()
    faulty[bits] ^= 1
    syndrome = int(check ^ np.bitwise_xor.reduce(generator[faulty == 1], initial=0))
    where = np.flatnonzero(generator == syndrome)
    if len(where):
        faulty[where[0]] ^= 1
    out = SECDED().guarded(memory, inverted(memory, bits))
    _, wrong = wrong_bits(memory, out.cases)
    assert wrong.tolist() == np.flatnonzero(faulty != word).tolist()
    assert out.detected[0] == (syndrome != 0)
    assert not out.repaired[0]


def test_three_flips_can_pass_as_a_correction(memory):
    """What an attacker who knows the code looks for: a fourth bit is turned as well."""
    generator = columns().tolist()
    triple = next(
        t
        for t in combinations(range(64), 3)
        if generator[t[0]] ^ generator[t[1]] ^ generator[t[2]] in generator
    )
    out = SECDED().guarded(memory, inverted(memory, triple))
    assert len(wrong_bits(memory, out.cases)[1]) == 4


def test_check_bits_are_struck_and_corrected_too(memory):
    guard = SECDED()
    every = np.arange(memory.bits, memory.bits + guard.storage(memory))
    cases, own = split(memory, np.arange(len(every)), every, len(every))
    out = guard.guarded(memory, cases, own)
    assert out.detected.all()
    assert out.repaired.all()
    # one of the data and one of the check bits of a word: noticed, and not corrected
    case, number = np.repeat(np.arange(8), 2), np.empty(16, dtype=np.int64)
    number[::2], number[1::2] = 5, memory.bits + np.arange(8)
    out = guard.guarded(memory, *split(memory, case, number, 8))
    assert out.detected.all()
    assert not out.repaired.any()


def test_storage_is_an_eighth(memory):
    words = -(-memory.bytes // 8)
    assert SECDED().storage(memory) == 8 * words


@given(st.lists(st.integers(0, 479), max_size=8))
def test_wrong_bits_are_those_that_were_inverted(numbers):
    memory = Memory(
        [
            region("a", torch.arange(-20.0, 20.0), "int8", layer="a", role="weight"),
            region("b", torch.randn(5), "float32", layer="b", role="bias"),
        ]
    )
    cases = flips(memory, np.zeros(len(numbers), dtype=int), np.array(numbers, dtype=int), 1)
    odd = [n for n in sorted(set(numbers)) if numbers.count(n) % 2]
    assert wrong_bits(memory, cases)[1].tolist() == odd
