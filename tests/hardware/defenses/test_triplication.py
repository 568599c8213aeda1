from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import ParameterError, UsageError
from casemate.hardware.cases import flips
from casemate.hardware.defenses.ecc import wrong_bits
from casemate.hardware.defenses.guarding import split
from casemate.hardware.defenses.most_sensitive import layers_of
from casemate.hardware.defenses.triplication import Triplication
from casemate.hardware.injector import Injector
from casemate.hardware.memory import Memory, region
from casemate.hardware.strata import all_bits
from casemate.random import stream


def memory():
    return Memory(
        [
            region("a", torch.arange(4.0), "int8", layer="one", role="weight"),
            region("b", torch.arange(3.0), "int4", layer="two", role="weight"),
            region("c", torch.arange(2.0), "int8", layer="one", role="bias"),
        ]
    )


@given(st.lists(st.integers(0, 60 + 2 * 48 - 1), max_size=12, unique=True))
def test_what_is_read_is_the_majority(numbers):
    held, guard = memory(), Triplication(layers=("one",))
    assert held.bits == 60
    assert guard.storage(held) == 2 * 48
    number = np.array(numbers, dtype=np.int64)
    cases, own = split(held, number * 0, number, 1)
    out = guard.guarded(held, cases, own)
    kept = [*range(32), *range(44, 60)]  # the bits of a and c
    wrong = np.zeros((3, held.bits), dtype=int)
    for n in numbers:
        copy, bit = (0, n) if n < 60 else (1 + (n - 60) // 48, kept[(n - 60) % 48])
        wrong[copy, bit] = 1
    expected = [b for b in range(60) if (wrong[:, b].sum() > 1 if b in kept else wrong[0, b])]
    assert wrong_bits(held, out.cases)[1].tolist() == expected
    assert out.detected[0] == (wrong[:, kept].sum() > 0)
    assert out.repaired[0] == (not expected)


def test_every_single_flip_is_outvoted():
    held, guard = memory(), Triplication()
    every = np.arange(held.bits + guard.storage(held))
    out = guard.guarded(held, *split(held, np.arange(len(every)), every, len(every)))
    assert out.repaired.all()
    assert out.detected.all()


def test_two_copies_of_a_bit_win():
    """What an attacker who knows the copies does."""
    held, guard = memory(), Triplication()
    number = np.array([7, held.bits + 7])
    out = guard.guarded(held, *split(held, np.zeros(2, dtype=int), number, 1))
    assert wrong_bits(held, out.cases)[1].tolist() == [7]


def test_a_layer_that_does_not_exist_is_one_sentence():
    with pytest.raises(UsageError, match='has no layer "three"'):
        Triplication(layers=("three",)).storage(memory())
    with pytest.raises(ParameterError, match=r"^triplication\.layers names a layer twice"):
        Triplication(layers=("one", "one"))
    with pytest.raises(ParameterError, match=r"^triplication\.most is 1, but layers names some"):
        Triplication(layers=("one",), most=1)
    with pytest.raises(ParameterError, match=r"^triplication\.most must be a whole number"):
        Triplication(most=0)
    with pytest.raises(ParameterError, match="call fitted first"):
        Triplication(most=1).storage(memory())


def test_the_most_sensitive_layers_are_those_of_the_exhaustive_answer(deployed, digits):
    """Held against all flips of each layer."""
    made, (_, evaluation) = deployed(name="int8"), digits
    few = evaluation.x[:60]
    means = {}
    for layer in layers_of(made.memory):
        injector = Injector(made, few)
        bits = all_bits(made.memory, made.memory.where(layers=(layer,)))
        numbers = bits.at(np.arange(bits.population))
        cases = flips(made.memory, np.arange(len(numbers)), numbers, len(numbers))
        effects = injector.effects(cases).without_numbers()
        means[layer] = effects.changed.mean() / len(few)
    order = sorted(means, key=means.get, reverse=True)
    guard = Triplication(most=1)
    guard.check(made)
    fitted = guard.fitted(made, few, stream(0, "fit"))
    assert fitted == Triplication(layers=(order[0],))
    assert fitted.fit == {"layers kept three times": [order[0]]}
    all_but_one = Triplication(most=len(order) - 1).fitted(made, few, stream(0, "fit"))
    assert set(all_but_one.layers) == set(order[:-1])
    with pytest.raises(ParameterError, match=f"the model has {len(order)} layers"):
        Triplication(most=len(order) + 1).check(made)
