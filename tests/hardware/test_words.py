from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.hardware.words import WORDS

SMALL = [name for name, word in WORDS.items() if word.bits <= 16]


@pytest.mark.parametrize("name", SMALL)
def test_every_word_is_decoded_and_encoded_again(name):
    word = WORDS[name]
    raw = torch.arange(1 << word.bits)
    values = word.of_raw(raw)
    back = word.raw(word.encode(values))
    if word.floating is not None:  # numbers that are none have many words
        real = ~values.isnan()
        assert torch.equal(back[real], raw[real])
        assert values.isnan().sum() == 2 * ((1 << (10 if name == "float16" else 7)) - 1)
    else:
        assert torch.equal(back, raw)
        assert values.min() == word.low
        assert values.max() == word.high


@given(st.integers(0, 2**32 - 1))
def test_a_float32_word_is_the_number_of_its_ieee_bits(raw):
    value = WORDS["float32"].of_raw(torch.tensor([raw])).numpy()
    expected = np.float32(struct.unpack("<f", struct.pack("<I", raw))[0])
    np.testing.assert_array_equal(value, np.array([expected]))


@given(st.integers(0, 2**32 - 1))
def test_an_int32_word_is_twos_complement_and_decoded_exactly(raw):
    value = WORDS["int32"].of_raw(torch.tensor([raw]))
    assert value.dtype == torch.float64
    assert int(value) == int(np.uint32(raw).astype(np.int32))


@pytest.mark.parametrize("name", list(WORDS))
@given(bit=st.integers(0, 31), number=st.integers(-8, 7))
def test_flipping_a_bit_twice_changes_nothing(name, bit, number):
    word = WORDS[name]
    bit %= word.bits
    number = max(number, word.low) if word.floating is None else number
    words = word.encode(torch.tensor([float(number)]))
    once = word.raw(words) ^ (1 << bit)
    assert word.of_raw(once ^ (1 << bit)) == number
    assert word.raw(word.carried(once)) == once


def test_the_sign_bit_of_an_integer_weighs_most():
    word = WORDS["int4"]
    assert word.of_raw(torch.tensor([0b0111, 0b1000, 0b1111])).tolist() == [7.0, -8.0, -1.0]


def test_integers_are_rounded_to_even_and_cut():
    word = WORDS["int8"]
    values = word.decode(word.encode(torch.tensor([0.5, 1.5, -0.5, 300.0, -300.0])))
    assert values.tolist() == [0.0, 2.0, 0.0, 127.0, -128.0]
