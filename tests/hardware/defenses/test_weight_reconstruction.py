from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.bfa import BFA
from casemate.hardware.attacks.changing_words import ChangingWords
from casemate.hardware.cases import changed_words, flips
from casemate.hardware.defenses.weight_reconstruction import WeightReconstruction
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import Implementation
from casemate.hardware.memory import Memory, region
from casemate.random import stream

GRAIN, REACH = 5, 0.25


def guard():
    return WeightReconstruction(grain=GRAIN, reach=REACH)


def memory(kind="int8", n=23):
    highest = 127 if kind == "int8" else 7
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.integers(-highest, highest + 1, n)).float()
    return Memory(
        [
            region("a.weight", codes, kind, layer="a", role="weight"),
            region("a.bias", torch.arange(3.0), "int32", layer="a", role="bias"),
        ]
    )


def cut(codes, kind="int8"):
    """Return codes as they are read, by the definition."""
    reach = max(1, round(REACH * (127 if kind == "int8" else 7)))
    out = []
    for i in range(0, len(codes), GRAIN):
        part = list(codes[i : i + GRAIN])
        middle = sorted(part)[(len(part) - 1) // 2]
        out += [min(max(c, middle - reach), middle + reach) for c in part]
    return out


def deployed(held, kind="int8"):
    return guard().protected(Implementation(None, held, NumberFormat(name=kind)), torch.zeros(0))


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_weights_are_cut_at_deployment_and_never_again(kind):
    held = memory(kind)
    codes = held["a.weight"].values.int().tolist()
    made = deployed(held, kind)
    assert made.memory["a.weight"].values.int().tolist() == cut(codes, kind) != codes
    again = guard().protected(made, torch.zeros(0)).memory
    assert torch.equal(again["a.weight"].words, made.memory["a.weight"].words)
    assert torch.equal(again["a.bias"].words, held["a.bias"].words)
    nothing = np.zeros(0, dtype=np.int64)
    out = guard().guarded(made.memory, flips(made.memory, nothing, nothing, 1))
    assert not len(out.cases.case)
    assert not out.detected.any()
    assert out.repaired.all()


@pytest.mark.parametrize("kind", ["int8", "int4"])
@given(data=st.data())
def test_what_is_read_is_the_definition(kind, data):
    held = deployed(memory(kind), kind).memory
    sets = data.draw(
        st.lists(
            st.lists(st.integers(0, held.bits - 1), max_size=6, unique=True), min_size=1, max_size=4
        )
    )
    case = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    numbers = np.array([n for s in sets for n in s], dtype=np.int64)
    cases = flips(held, case, numbers, len(sets))
    out = guard().guarded(held, cases)
    for i in range(len(sets)):
        struck = changed_words(held, cases.part(i, i + 1))
        read = changed_words(held, out.cases.part(i, i + 1))
        weight = held["a.weight"]
        words = struck.get("a.weight", weight.words)
        expected = cut(weight.word.decode(words).int().tolist(), kind)
        got = weight.word.decode(read.get("a.weight", weight.words)).int().tolist()
        assert got == expected
        assert guard().values(weight, words).int().tolist() == expected
        bias = held["a.bias"]
        assert torch.equal(read.get("a.bias", bias.words), struck.get("a.bias", bias.words))
        assert out.detected[i] == (expected != weight.word.decode(words).int().tolist())
        assert out.repaired[i] == (not read)


def test_one_flip_moves_a_weight_by_the_reach_and_what_it_was_off():
    held = deployed(memory()).memory
    sign = 8 * np.arange(held["a.weight"].count) + 7
    cases = flips(held, np.arange(len(sign)), sign, len(sign))
    out = guard().guarded(held, cases)
    before = held["a.weight"].values.reshape(-1).int()
    for i in range(len(sign)):
        words = changed_words(held, out.cases.part(i, i + 1)).get("a.weight")
        if words is not None:
            moved = (held["a.weight"].word.decode(words).int() - before).abs()
            assert moved.max() <= 4 * 32  # the median moves by a place, at most from end to end


def test_a_bit_that_is_tried_is_put_back(deployed, digits):
    made = guard().protected(deployed(name="int8"), digits[0].x)
    held = ChangingWords(made.memory, made.memory.where(roles=["weight"]), made.reading)
    before = {n: v.clone() for n, v in held.values.items()}
    words = {n: w.clone() for n, w in held.words.items()}
    number = made.memory.span("4.weight")[0] + 7
    with held.trying(number):
        assert not torch.equal(held.values["4.weight"], before["4.weight"])
    assert all(torch.equal(held.values[n], v) for n, v in before.items())
    assert all(torch.equal(held.words[n], w) for n, w in words.items())


def test_who_knows_it_searches_on_what_is_read(deployed, digits):
    pool, evaluation = digits
    made = guard().protected(deployed(name="int8"), pool.x)
    outcome = BFA(budget=3, level=0.0, batch=64).run(made, pool, evaluation, stream(0, "search"))
    memory_, numbers = made.memory, [f.number for f in outcome.flips]
    cases = flips(memory_, np.zeros(3, dtype=np.int64), np.array(numbers), 1)
    read = changed_words(memory_, guard().guarded(memory_, cases).cases)
    after = Implementation(made.graph, memory_.with_words(read), made.form)
    right = after.scores(evaluation.x).argmax(1) == evaluation.labels
    assert outcome.after.accuracy == pytest.approx(float(right.double().mean()))


def test_what_makes_no_sense_is_one_sentence(deployed):
    with pytest.raises(UsageError, match="weight-reconstruction needs weights that are integers"):
        guard().check(deployed(name="float32"))
    for words, given_ in (
        ("grain", {"grain": 2}),
        ("reach", {"reach": 0.0}),
        ("reach", {"reach": 3}),
    ):
        with pytest.raises(ParameterError, match=words):
            WeightReconstruction(**given_)
