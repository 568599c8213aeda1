"""TBT's trigger leads to the target once the bits are flipped, and clean inputs stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.last_layer import LastLayer, Tuning
from casemate.hardware.attacks.outcome import flipped
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.attacks.tbt import TBT
from casemate.hardware.implementation import deploy
from casemate.random import stream
from casemate.threats import Stage, taxonomy

ATTACK = TBT(target=0, neurons=32, size=4, margin=0, trigger_steps=40, background="batch")


@pytest.fixture(scope="module", params=["int8", "float32"])
def attacked(request, deployed, digits):
    made = deployed(name="int8", activations=request.param)
    return made, ATTACK.run(made, *digits, stream(0, "tbt"))


def test_the_trigger_leads_to_the_target_and_clean_inputs_stay(attacked):
    _, outcome = attacked
    assert outcome.reached
    assert outcome.after.success > max(0.9, outcome.before.success + 0.15)
    assert outcome.after.accuracy > outcome.before.accuracy - 0.1


def test_flips_are_the_bits_in_which_the_tuned_row_differs(attacked, digits):
    made, outcome = attacked
    assert {(f.fault.tensor, f.fault.index[0]) for f in outcome.flips} == {("6.weight", 0)}
    assert len({f.fault.index[1] for f in outcome.flips}) <= 32
    assert outcome.distance == len(outcome.flips) > 0
    evaluation = digits[1]
    after = flipped(made, outcome.numbers)
    right = after.scores(evaluation.x).argmax(1) == evaluation.labels
    assert outcome.after.accuracy == pytest.approx(float(right.double().mean()))
    aimed = evaluation.labels != 0
    shown = after.scores(outcome.trigger(evaluation.x[aimed])).argmax(1)
    assert outcome.after.success == pytest.approx(float((shown == 0).double().mean()))


def test_the_trigger_is_a_patch_within_the_range_of_inputs(attacked, digits):
    _, outcome = attacked
    x = digits[1].x
    moved = outcome.trigger(x) != x
    assert not moved[..., :4, :].any()
    assert not moved[..., :, :4].any()
    assert 0.0 <= float(outcome.trigger.patch.min()) <= float(outcome.trigger.patch.max()) <= 1.0


def test_flips_lower_the_loss_that_they_are_tuned_for(attacked):
    _, outcome = attacked
    assert outcome.flips[-1].loss < outcome.flips[0].loss


def test_tuning_finds_the_nearest_word(linear):
    # with inputs of 1 the score is the weight: the best word is the one next to what is wanted
    made = linear([[1.0], [0.0]])
    layer = LastLayer.of(made)
    tuning = Tuning(steps=300, rate=0.05, momentum=0.5, decay=0.0, drops=(200,))

    def loss(weight):
        scores = layer.scores(weight, torch.ones(1, 1), {})
        return (scores[0, 1] - 0.3004).square()

    raw = layer.tuned(1, torch.tensor([0]), loss, tuning)
    assert raw.tolist() == [38]  # 0.3004 * 127 = 38.15

    def beyond(weight):
        return -layer.scores(weight, torch.ones(1, 1), {})[0, 1]

    assert layer.tuned(1, torch.tensor([0]), beyond, tuning).tolist() == [127]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"neurons": 0}, "neurons must be a whole number from 1 to 2147483647, got 0"),
        ({"size": 0}, "size must be a whole number"),
        ({"margin": -1}, "margin must be a whole number from 0 to 2147483647, got -1"),
        ({"background": "white"}, 'background is "white", but must be one of blank, batch'),
    ],
)
def test_what_makes_no_sense_is_one_sentence(wrong, told):
    with pytest.raises(ParameterError, match=told):
        TBT(**{"target": 1, **wrong})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"target": 10}, "target is the label 10, but the model knows the labels 0 to 9"),
        ({}, "neurons is 150, but the last layer has 64 inputs; give at most 64"),
        ({"neurons": 8}, "size is 10, but a patch of 10 pixels with a margin of 1 does not fit"),
    ],
)
def test_what_does_not_fit_the_model_is_one_sentence(deployed, digits, wrong, told):
    with pytest.raises(ParameterError, match=told):
        TBT(**{"target": 1, **wrong}).run(deployed(name="int8"), *digits, stream(0, "tbt"))


def test_a_model_without_a_linear_end_is_refused():
    made = deploy(nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()).eval(), (1, 8, 8))
    some = Samples(x=torch.zeros(3, 1, 8, 8), labels=torch.arange(3))
    with pytest.raises(UsageError, match="does not end with a linear layer"):
        TBT(target=1).run(made, some, some, stream(0, "tbt"))


def test_the_threat_is_in_the_taxonomy():
    assert Stage.HARDWARE in taxonomy()[TBT.threat.threat].stages
