from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware.cases import flips
from casemate.hardware.defenses.product_checksums import ProductChecksums
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy

FORMATS = [NumberFormat(), NumberFormat(name="int8", scheme="affine")]


def deployed(form):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).eval()
    x = torch.rand(20, 2, 4, 4) + 0.1  # no input is 0, so every change of a weight shows
    return deploy(module, (2, 4, 4), form, calibration=x), x


def alarms(made, cases, x):
    """Return alarms by case, and those without any change."""
    guard, nothing = ProductChecksums(), np.zeros(0, dtype=np.int64)
    limits = guard.limits(made, x)
    (false,) = guard.alarms(made, flips(made.memory, nothing, nothing, 1), x, limits)
    return SimpleNamespace(detected=guard.alarms(made, cases, x, limits), false=false)


def bit(memory, name, word, at):
    return memory.span(name)[0] + memory[name].word.bits * word + at


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_clean_inferences_raise_no_alarm_and_large_changes_do(form):
    made, x = deployed(form)
    memory = made.memory
    high = 30 if form.name == "float32" else 7
    numbers = np.array(
        [bit(memory, "0.weight", w, high) for w in range(54)]
        + [bit(memory, "3.weight", w, high) for w in range(0, 192, 7)]
    )
    cases = flips(memory, np.arange(len(numbers)), numbers, len(numbers))
    out = alarms(made, cases, x)
    assert not out.false.any()
    assert out.detected.shape == (len(numbers), 20)
    assert out.detected[:54].all()
    # an input of the last layer may be 0 behind the ReLU: then its weights are not used
    outputs = {}
    made.graph.trace(memory.values, x, lambda i, out: outputs.update({i: out}))
    (layer,) = (i for i, n in enumerate(made.graph.nodes) if n.name == "3")
    zero = memory.values["0.output.zero"] if form.is_integer else 0.0
    used = (outputs[made.graph.nodes[layer].inputs[0]] != zero).t().numpy()
    columns = np.arange(0, 192, 7) % 48
    np.testing.assert_array_equal(out.detected[54:], used[columns])
    assert 0.2 < used.mean() < 0.9


def test_integers_show_the_smallest_change_and_floats_do_not():
    for form, expected in zip(FORMATS, (False, True), strict=True):
        made, x = deployed(form)
        cases = flips(made.memory, np.array([0]), np.array([bit(made.memory, "0.weight", 5, 0)]), 1)
        assert alarms(made, cases, x).detected.all() == expected


def test_changes_that_cancel_pass():
    """What an attacker who knows the defense does."""
    made, x = deployed(FORMATS[1])
    memory = made.memory
    codes = memory.values["3.weight"].long() & 0xFF
    # the same bit of the same input's weights, set in one channel and cleared in another
    column = next(
        (i, a, b)
        for i in range(48)
        for a in range(4)
        for b in range(4)
        if not codes[a, i] & 64 and codes[b, i] & 64
    )
    i, a, b = column
    both = np.array(
        [bit(memory, "3.weight", 48 * a + i, 6), bit(memory, "3.weight", 48 * b + i, 6)]
    )
    cases = flips(memory, np.array([0, 1, 1]), np.array([both[0], *both]), 2)
    out = alarms(made, cases, x)
    assert out.detected[0].any()
    assert not out.detected[1].any()


def test_overheads_are_one_channel_more():
    made, _ = deployed(FORMATS[0])
    assert ProductChecksums().storage(made) == 32 * (18 + 1 + 48 + 1)
    assert ProductChecksums().multiplications(made) == 16 * 18 + 48


def test_what_it_cannot_check_is_one_sentence():
    with pytest.raises(ParameterError, match=r"^product-checksums\.slack is 0.5"):
        ProductChecksums(slack=0.5)
    made = deploy(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)).eval(), (4,))
    with pytest.raises(UsageError, match="product-checksums found no convolution or linear layer"):
        ProductChecksums().storage(made)
