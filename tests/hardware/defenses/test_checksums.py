from __future__ import annotations

import numpy as np
import pytest
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.cases import flips
from casemate.hardware.defenses.checksums import RADAR
from casemate.hardware.memory import Memory, region


def memory(n=64, zero=None):
    codes = torch.from_numpy(np.random.default_rng(0).integers(-127, 128, n)).float()
    regions = [
        region("a.weight", codes, "int8", layer="a", role="weight"),
        region("a.bias", torch.randn(3), "float32", layer="a", role="bias"),
    ]
    if zero is not None:
        points = torch.tensor(zero)
        regions.append(region("a.weight.zero", points, "int8", layer="a", role="zero point"))
    return Memory(regions)


def at(held, word, bit, name="a.weight"):
    first, _ = held.span(name)
    return first + held[name].word.bits * word + bit


def guarded(guard, held, *sets):
    case = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    numbers = np.concatenate([np.array(s) for s in sets])
    return guard.guarded(held, flips(held, case, numbers, len(sets)))


def values(held, out, case=0):
    """Return the weights that are read under a case."""
    raw = held["a.weight"].word.raw(held["a.weight"].words).clone()
    mine = (out.cases.case == case) & (out.cases.region == held.names["a.weight"])
    raw[torch.from_numpy(out.cases.word[mine])] = torch.from_numpy(out.cases.raw[mine])
    return held["a.weight"].word.of_raw(raw)


def plainly(guard, held, numbers):
    """Return what is read, and whether there was an alarm, with no shortcut."""
    weight = held["a.weight"]
    old = weight.values.long()
    raw = weight.word.raw(weight.words).clone()
    for number in numbers:
        fault = held.fault(int(number))
        raw[fault.index] ^= 1 << fault.bit
    new = weight.word.of_raw(raw).long()
    signs = torch.from_numpy(guard.signs(weight))
    groups = torch.from_numpy(guard.groups(weight))
    alarm = False
    read = new.clone()
    for g in groups.unique():
        before, after = ((signs * v)[groups == g].sum() for v in (old, new))
        powers = (256, 128) if guard.bits == 2 else (256, 128, 64)
        if any((before // p) % 2 != (after // p) % 2 for p in powers):
            alarm = True
            read[groups == g] = 0
    return read.float(), alarm


@pytest.mark.parametrize("bits", [2, 3])
def test_what_is_read_is_what_the_papers_formula_gives(bits):
    held, guard = memory(), RADAR(group=8, bits=bits)
    rng = np.random.default_rng(1)
    sets = [rng.choice(64 * 8, rng.integers(1, 5), replace=False) for _ in range(200)]
    out = guarded(guard, held, *sets)
    for i, numbers in enumerate(sets):
        read, alarm = plainly(guard, held, numbers)
        assert out.detected[i] == alarm
        assert torch.equal(values(held, out, i), read)
    assert 0 < out.detected.mean() < 1


def test_the_highest_bit_is_always_noticed_and_its_group_becomes_zero():
    held, guard = memory(), RADAR(group=16)
    out = guarded(guard, held, *[[at(held, w, 7)] for w in range(64)])
    assert out.detected.all()
    groups = guard.groups(held["a.weight"])
    assert (values(held, out, 5)[torch.from_numpy(groups == groups[5])] == 0).all()
    kept = torch.from_numpy(groups != groups[5])
    assert torch.equal(values(held, out, 5)[kept], held.values["a.weight"][kept])


def test_two_highest_bits_that_cancel_go_unnoticed():
    """What an attacker who knows groups and key does."""
    held, guard = memory(), RADAR(group=16)
    weight = held["a.weight"]
    groups, signs = guard.groups(weight), guard.signs(weight)
    moves = signs * np.where(weight.values.numpy() < 0, 128, -128)
    first = 0
    second = next(w for w in range(1, 64) if groups[w] == groups[0] and moves[w] == -moves[0])
    out = guarded(guard, held, [at(held, first, 7), at(held, second, 7)])
    assert not out.detected.any()
    assert len(out.cases.case) == 2


def test_a_third_bit_notices_every_flip_of_the_second_highest():
    held = memory(512)
    sets = [[at(held, w, 6)] for w in range(512)]
    share = guarded(RADAR(group=64), held, *sets).detected.mean()
    assert 0.4 < share < 0.6
    assert guarded(RADAR(group=64, bits=3), held, *sets).detected.all()


def test_neighbors_are_in_different_groups():
    groups = RADAR(group=8).groups(memory()["a.weight"])
    assert np.bincount(groups).tolist() == [8] * 8
    assert (np.diff(groups) != 0).all()


def test_zero_is_the_zero_point_of_affine_weights():
    held = memory(64, zero=[5.0])
    out = guarded(RADAR(group=64), held, [at(held, 0, 7)])
    assert (values(held, out) == 5).all()
    held = memory(64, zero=[5.0, -3.0])
    out = guarded(RADAR(group=64), held, [at(held, 0, 7)])
    assert values(held, out).tolist() == [5.0] * 32 + [-3.0] * 32


def test_what_is_no_weight_is_not_guarded():
    held = memory()
    out = guarded(RADAR(group=8), held, [at(held, 1, 30, "a.bias")])
    assert not out.detected.any()
    assert len(out.cases.case) == 1


def test_storage_is_two_bits_a_group_and_the_key():
    assert RADAR(group=8).secure(memory(60)) == 8 * 2 + 16
    assert RADAR(group=8, bits=3).secure(memory(64)) == 8 * 3 + 16
    assert RADAR(group=8).storage(memory(64)) == 0


def test_what_it_cannot_guard_is_one_sentence():
    held = Memory([region("a", torch.randn(4), "float32", layer="a", role="weight")])
    with pytest.raises(UsageError, match="radar needs weights of eight bits"):
        RADAR().storage(held)
    with pytest.raises(ParameterError, match=r"^radar\.group must be a whole number from 2"):
        RADAR(group=1)
    with pytest.raises(ParameterError, match=r"^radar\.bits must be a whole number"):
        RADAR(bits=4)
