from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import UsageError
from casemate.hardware.memory import ALIGNMENT, Fault, Memory, region


def memory():
    return Memory(
        [
            region("a.weight", torch.randn(3, 5), "float32", layer="a", role="weight"),
            region("b.weight", torch.arange(-4.0, 3.0), "int4", layer="b", role="weight"),
            region("b.scale", torch.tensor(0.25), "float16", layer="b", role="scale"),
            region("c.bias", torch.tensor([-7.0, 9.0]), "int32", layer="c", role="bias"),
        ]
    )


@given(st.data())
def test_a_fault_a_number_and_an_address_name_the_same_bit(data):
    held = memory()
    number = data.draw(st.integers(0, held.bits - 1))
    fault = held.fault(number)
    assert held.number(fault) == number
    byte, bit = held.addresses(np.array([number]))
    assert held.at(byte, bit).tolist() == [number]
    assert (held.image()[byte] >> bit) & 1 == held.read(np.array([number]))
    where = held[fault.tensor]
    assert where.address <= byte[0] < where.address + where.bytes


def test_all_bits_have_different_addresses_and_padding_has_none():
    held = memory()
    byte, bit = held.addresses(np.arange(held.bits))
    assert len(set(zip(byte.tolist(), bit.tolist(), strict=True))) == held.bits
    everywhere = held.at(np.repeat(np.arange(held.bytes), 8), np.tile(np.arange(8), held.bytes))
    assert (everywhere >= 0).sum() == held.bits
    assert all(r.address % ALIGNMENT == 0 for r in held.regions)
    assert held.at(np.array([held.bytes + 4]), np.array([0])).tolist() == [-1]


def test_the_image_holds_the_words_as_a_little_endian_file_does():
    held = memory()
    image = held.image()
    weight = held["a.weight"]
    raw = image[weight.address : weight.address + weight.bytes].tobytes()
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), weight.values.flatten().numpy())
    nibbles = image[held["b.weight"].address :][:4]
    assert nibbles.tolist() == [0xDC, 0xFE, 0x10, 0x02]


def test_values_are_what_was_put_in():
    held = memory()
    assert held.values["b.weight"].tolist() == [-4, -3, -2, -1, 0, 1, 2]
    assert held.values["b.scale"].shape == ()
    assert held.values["c.bias"].tolist() == [-7, 9]


def test_words_can_be_replaced():
    held = memory()
    again = held.with_words({"c.bias": torch.tensor([1, 2], dtype=torch.int32)})
    assert again.values["c.bias"].tolist() == [1, 2]
    assert held.values["c.bias"].tolist() == [-7, 9]
    assert again.bits == held.bits


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            Fault(tensor="a.wait", index=(0, 0), bit=0),
            'the deployed model has no tensor "a.wait". Did you mean "a.weight"?',
        ),
        (
            Fault(tensor="a.weight", index=(0, 5), bit=0),
            (
                "a.weight has the shape (3, 5), so there is no element (0, 5); give one index a "
                "dimension, from 0"
            ),
        ),
        (
            Fault(tensor="a.weight", index=(0,), bit=0),
            (
                "a.weight has the shape (3, 5), so there is no element (0,); give one index a "
                "dimension, from 0"
            ),
        ),
        (
            Fault(tensor="b.weight", index=(0,), bit=4),
            "b.weight holds int4 words, so there is no bit 4; give a bit from 0 to 3",
        ),
    ],
)
def test_a_fault_outside_memory_is_one_sentence(fault, sentence):
    with pytest.raises(UsageError) as caught:
        memory().number(fault)
    assert str(caught.value) == sentence


def test_a_layer_that_does_not_exist_is_one_sentence():
    with pytest.raises(UsageError, match='has no layer "d"'):
        memory().where(layers=["d"])
    with pytest.raises(UsageError, match="no tensor of the deployed model is one of norm"):
        memory().where(roles=["norm"])
    assert [r.name for r in memory().where(roles=["weight"])] == ["a.weight", "b.weight"]
    assert [r.name for r in memory().where(layers=["b"])] == ["b.weight", "b.scale"]
