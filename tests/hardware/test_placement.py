from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memories import LIKELY, huge, memory, peak
from scipy import stats

from casemate.errors import ParameterError, UsageError
from casemate.hardware.memory import Memory, region
from casemate.hardware.placement import Everywhere


def test_each_bit_is_as_likely_as_any_other():
    held = memory()
    where = Everywhere(roles=("weight", "bias", "scale"))
    drawn = where.draw(held, np.random.default_rng(1), 40_000)
    counts = np.bincount(drawn, minlength=held.bits)
    assert counts.shape == (held.bits,)
    assert stats.chisquare(counts).pvalue > LIKELY


def test_a_layer_is_drawn_in_proportion_to_its_bits():
    held = memory()
    drawn = Everywhere().draw(held, np.random.default_rng(2), 20_000)
    share = (drawn < held.span("a.weight")[1]).mean()
    assert share == pytest.approx(6 * 32 / (6 * 32 + 7 * 4), abs=0.01)


@given(
    roles=st.lists(st.sampled_from(["weight", "bias", "scale"]), min_size=1),
    layers=st.none() | st.just(("a", "b")) | st.just(("b",)),
)
def test_the_numbers_are_those_of_the_chosen_tensors(roles, layers):
    held = memory()
    if layers == ("b",) and set(roles) == {"bias"}:
        return
    where = Everywhere(roles=tuple(roles), layers=layers)
    regions, _, _ = held.locate(np.arange(held.bits))
    chosen = [r.role in roles and (layers is None or r.layer in layers) for r in held.regions]
    wanted = np.flatnonzero(np.array(chosen)[regions]).tolist()
    assert where.numbers(held).tolist() == wanted
    assert where.population(held) == len(wanted)
    drawn = where.draw(held, np.random.default_rng(0), len(wanted), replace=False)
    assert sorted(drawn.tolist()) == wanted


def test_a_hundred_million_weights_take_memory_for_what_is_drawn_only():
    held = huge()
    where = Everywhere()
    rng = np.random.default_rng(5)

    def work():
        assert where.population(held) == 3_200_000_000
        drawn = where.draw(held, rng, 1000, replace=False)
        assert len(np.unique(drawn)) == 1000
        assert drawn.max() > 2**31
        strata = where.strata(held)
        assert [s.population for s in strata] == [100_000_000] * 32
        assert (strata[30].draw(rng, 1000, replace=False) % 32 == 30).all()

    assert peak(work) < 1 << 20


def test_the_same_seed_draws_the_same():
    held = memory()
    for replace in (True, False):
        one, two = (
            Everywhere().draw(held, np.random.default_rng(6), 20, replace=replace).tolist()
            for _ in range(2)
        )
        assert one == two


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"roles": "weight"}, 'roles must be a list of names, got "weight"; put it in one'),
        ({"layers": "a"}, 'layers must be a list of names, got "a"; put it in one'),
        ({"roles": ()}, "roles is empty; name at least one or leave it out"),
        ({"layers": ()}, "layers is empty; name at least one or leave it out"),
        ({"roles": ("wait",)}, 'roles has no "wait". Did you mean "weight"?'),
    ],
)
def test_a_wrong_parameter_is_one_sentence(parameters, sentence):
    with pytest.raises(ParameterError) as caught:
        Everywhere(**parameters)
    assert str(caught.value) == sentence


def test_what_memory_does_not_have_is_one_sentence():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match='has no layer "c"'):
        Everywhere(layers=("c",)).population(memory())
    with pytest.raises(
        UsageError,
        match=(
            r"^29 different bits are asked for, but the chosen tensors of the deployed model have "
            r"28; ask for fewer, or choose more roles or layers$"
        ),
    ):
        Everywhere(layers=("b",)).draw(memory(), rng, 29, replace=False)
    empty = Memory([region("e", torch.zeros(0, 3), "int8", layer="e", role="weight")])
    with pytest.raises(UsageError, match="hold no numbers"):
        Everywhere().draw(empty, rng, 1)
    assert Everywhere().strata(empty) == ()
    assert Everywhere().draw(empty, rng, 0).tolist() == []
