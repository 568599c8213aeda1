"""Who knows a defense flips more bits, so that the wanted ones stay and nobody notices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from casemate.hardware.cases import flips
from casemate.hardware.defenses.checksums import RADAR
from casemate.hardware.defenses.ecc import SECDED, wrong_bits
from casemate.hardware.defenses.guarding import split
from casemate.hardware.defenses.product_checksums import ProductChecksums
from casemate.hardware.defenses.triplication import Triplication
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import Implementation, deploy
from casemate.hardware.memory import Memory, region


def memory(n=400):
    codes = torch.from_numpy(np.random.default_rng(0).integers(-127, 128, n)).float()
    return Memory(
        [
            region("a.weight", codes, "int8", layer="a", role="weight"),
            region("a.bias", torch.arange(3.0), "int32", layer="a", role="bias"),
        ]
    )


def of(held):
    """Return a deployed model of which only the memory counts."""
    return Implementation(None, held, NumberFormat(name="int8"))


def odd(bits):
    """Return the bits that differ after all flips."""
    found, times = np.unique(np.array(bits, dtype=np.int64), return_counts=True)
    return found[times % 2 == 1]


def read(guard, held, made):
    """Return which bits of the memory are wrong behind the guard, and whether it noticed."""
    number = odd([n for bits in made for n in bits])
    out = guard.guarded(held, *split(held, number * 0, number, 1))
    return wrong_bits(held, out.cases)[1].tolist(), bool(out.detected[0])


WANTED = st.lists(st.integers(0, 399), min_size=1, max_size=8, unique=True)


@given(WANTED)
def test_the_decoder_turns_check_bits_and_hands_out_the_wanted_ones(wanted):
    held, guard = memory(), SECDED()
    made = guard.evading(of(held), wanted)
    for k in range(len(wanted)):
        assert made[k][0] == wanted[k]
        assert read(guard, held, made[: k + 1])[0] == sorted(wanted[: k + 1])
    for number, bits in zip(wanted[:1], made, strict=False):
        assert len(bits) in (3, 5)  # the ones of a column, less the one that the decoder turns
        assert read(guard, held, [[number]]) == ([], True)


@given(WANTED)
def test_two_copies_outvote_the_third(wanted):
    held, guard = memory(), Triplication()
    made = guard.evading(of(held), wanted)
    assert {len(bits) for bits in made} == {2}
    assert read(guard, held, made)[0] == sorted(wanted)
    assert read(guard, held, [[n] for n in wanted])[0] == []


def test_a_bit_that_is_not_copied_is_alone():
    held = Memory(
        [
            region("a", torch.arange(4.0), "int8", layer="one", role="weight"),
            region("b", torch.arange(4.0), "int8", layer="two", role="weight"),
        ]
    )
    assert Triplication(layers=("two",)).evading(of(held), [3, 33]) == [[3], [33, 65]]


@given(WANTED, st.integers(0, 30))
def test_no_key_shows_weights_that_cancel(wanted, key):
    held, guard = memory(), RADAR(group=100, key=key)
    wanted = [8 * n + 7 for n in wanted]  # sign bits, which move a checksum by 128
    made = guard.evading(of(held), wanted)
    seen, noticed = read(guard, held, made)
    partners = {n for bits in made for n in bits[1:]}
    if all(len(bits) == 2 for bits in made):
        assert not partners & set(wanted)
        apart = [abs(a - b) // 8 for a, b in made]
        if all(d % (4 * 16) == 0 for d in apart):  # four groups, a key of 16 signs
            assert not noticed
            assert seen == sorted({*wanted, *partners})
    assert read(guard, held, [[n] for n in wanted[:1]])[1]


def test_most_flips_find_a_partner_that_cancels_for_every_key():
    held = memory()
    made = RADAR(group=100).evading(of(held), [8 * n + 7 for n in range(0, 400, 40)])
    sure = [bits for bits in made if len(bits) == 2 and (bits[1] - bits[0]) // 8 % 64 == 0]
    assert len(sure) >= 9
    for key in range(8):
        assert not read(RADAR(group=100, key=key), held, sure)[1]


def test_small_groups_have_no_such_partner_and_half_of_the_keys_notice():
    held = memory()
    noticed = [
        read(guard, held, guard.evading(of(held), [8 * 17 + 7]))[1]
        for guard in (RADAR(group=8, key=key) for key in range(60))
    ]
    assert 15 < sum(noticed) < 45


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_sums_of_channels_stay(scheme):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(32, 16)).eval()
    x = torch.rand(20, 2, 4, 4) + 0.1
    made = deploy(module, (2, 4, 4), NumberFormat(name="int8", scheme=scheme), calibration=x)
    guard, held = ProductChecksums(), made.memory
    first = held.span("1.weight")[0]
    wanted = [first + 8 * w + 6 for w in (3, 40, 200)]
    sets = [guard.evading(made, wanted), [[n] for n in wanted]]
    detected = []
    for bits in sets:
        number = odd([n for flip in bits for n in flip])
        cases = flips(held, number * 0, number, 1)
        assert len(cases.case) == len(number)
        detected.append(guard.alarms(made, cases, x, guard.limits(made, x)))
    assert not detected[0].any()
    assert detected[1].all()


def test_words_that_are_no_integers_cannot_be_made_up_for():
    made = deploy(nn.Sequential(nn.Linear(4, 3)).eval(), (4,))
    assert ProductChecksums().evading(made, [5, 70]) == [[5], [70]]


class Only:
    """A constraint under which some bits can flip, and each once."""

    def __init__(self, bits):
        self.bits, self.added = set(bits), []

    def possible(self, numbers):
        return np.isin(numbers, sorted(self.bits - set(self.added)))

    def add(self, number):
        assert number in self.bits
        self.added.append(number)


def test_second_flips_keep_to_the_cells_that_can_flip():
    held, guard = memory(), RADAR(group=100)
    wanted = [8 * 17 + 7]
    (both,) = guard.evading(of(held), wanted)
    nearest = both[1]
    others = {8 * w + 7 for w in range(400)} - {nearest}
    (other,) = guard.evading(of(held), wanted, constraint=Only(others))
    assert other[1] in others
    none = Only(())
    assert guard.evading(of(held), wanted, constraint=none) == [wanted]
    module = nn.Sequential(nn.Linear(32, 16)).eval()
    made = deploy(module, (32,), NumberFormat(name="int8"), calibration=torch.rand(9, 32))
    first = made.memory.span("0.weight")[0]
    checks = ProductChecksums()
    (pair,) = checks.evading(made, [first + 6])
    assert len(pair) == 2
    left = Only({first + 8 * 32 * o + 6 for o in range(16)} - {pair[1]})
    (again,) = checks.evading(made, [first + 6], constraint=left)
    assert again[1:] == left.added != pair[1:]
    assert checks.evading(made, [first + 6], constraint=Only(())) == [[first + 6]]


def test_channels_with_units_of_their_own_and_unchecked_layers_have_no_second_flip():
    torch.rand(9, 4, 6, 6)
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)
    ).eval()
    for granularity, pairs in (("channel", 1), ("tensor", 2)):
        form = NumberFormat(name="int8", granularity=granularity, activations="float32")
        made = deploy(module, (4, 6, 6), form)
        found = ProductChecksums().evading(
            made, [made.memory.span("0.weight")[0] + 6, made.memory.span("3.weight")[0] + 6]
        )
        assert [len(bits) for bits in found] == [1, pairs]
