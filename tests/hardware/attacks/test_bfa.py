"""BFA wrecks a model with few flips, random flips do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.bfa import BFA
from casemate.hardware.attacks.random_flips import RandomFlips
from casemate.hardware.attacks.readings import Reading
from casemate.random import stream
from casemate.threats import Stage, taxonomy

FORMS = (
    {"name": "int8"},
    {"name": "int8", "granularity": "tensor", "activations": "float32"},
)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("objective", ["cross-entropy", "sigmoid margin"])
def test_searched_flips_beat_random_ones(deployed, digits, form, objective):
    made, (pool, evaluation) = deployed(**form), digits
    attack = BFA(objective=objective, budget=40, level=0.3, batch=64)
    searched = attack.run(made, pool, evaluation, stream(0, "bfa"))
    assert searched.before.accuracy > 0.93
    assert searched.reached
    control = RandomFlips(budget=len(searched.flips))
    for seed in range(2):
        chance = control.run(made, pool, evaluation, stream(seed, "control"))
        assert chance.after.accuracy > searched.after.accuracy + 0.4


def test_bits_of_exponents_are_enough_in_floating_point(deployed, digits):
    pool, evaluation = digits
    outcome = BFA(budget=3, level=0.3, batch=64).run(
        deployed(name="float32"), pool, evaluation, stream(0, "bfa")
    )
    assert outcome.reached
    assert len(outcome.flips) <= 2
    assert all(23 <= f.fault.bit <= 30 for f in outcome.flips)
    assert all(np.isfinite(f.loss) for f in outcome.flips)


def test_the_same_stream_gives_the_same_flips(deployed, digits):
    made, (pool, evaluation) = deployed(name="int8"), digits
    attack = BFA(budget=3, batch=32, level=0.0)
    one, two = (attack.run(made, pool, evaluation, stream(7, "bfa")) for _ in range(2))
    assert one == two
    other = attack.run(made, pool, evaluation, stream(8, "bfa"))
    assert [f.loss for f in other.flips] != [f.loss for f in one.flips]


def test_only_named_layers_are_flipped(deployed, digits):
    made, (pool, evaluation) = deployed(name="int8"), digits
    outcome = BFA(budget=3, batch=32, level=0.0, layers=("4",)).run(
        made, pool, evaluation, stream(0, "bfa")
    )
    assert {f.fault.tensor for f in outcome.flips} == {"4.weight"}


def test_a_layer_that_does_not_exist_is_one_sentence(deployed, digits):
    with pytest.raises(UsageError, match='the deployed model has no layer "fc9"') as told:
        BFA(layers=("fc9",)).run(deployed(name="int8"), *digits, stream(0, "bfa"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"budget": 0}, "budget must be a whole number from 1 to 2147483647, got 0"),
        ({"level": 1.5}, "level must be a number of at least 0 and at most 1, got 1.5"),
        ({"batch": 0}, "batch must be a whole number from 1 to 2147483647, got 0"),
        ({"temperature": 0}, "temperature must be a number of at least 1e-06, got 0"),
        ({"objective": "margin"}, 'objective is "margin", but must be one of cross-entropy'),
        ({"labels": "none"}, 'labels is "none", but must be one of model, true'),
    ],
)
def test_what_makes_no_sense_is_one_sentence(wrong, told):
    with pytest.raises(ParameterError, match=told):
        BFA(**wrong)


def test_labels_need_not_be_known(deployed, digits):
    made, (pool, evaluation) = deployed(name="int8"), digits
    blind = type(pool)(x=pool.x, labels=torch.zeros_like(pool.labels))
    attack = BFA(budget=2, batch=32, level=0.0)
    assert attack.run(made, blind, evaluation, stream(0, "bfa")) == attack.run(
        made, pool, evaluation, stream(0, "bfa")
    )


@pytest.mark.parametrize("attack", [BFA, RandomFlips])
def test_the_threat_is_in_the_taxonomy(attack):
    assert attack.threat.stage is Stage.HARDWARE
    assert Stage.HARDWARE in taxonomy()[attack.threat.threat].stages


@pytest.mark.parametrize(("classes", "level"), [(10, 0.11), (2, 0.55), (100, 0.011)])
def test_the_goal_is_a_tenth_better_than_guessing_if_nothing_is_said(classes, level):
    for accuracy, reached in ((level - 1e-9, True), (level + 1e-9, False)):
        assert BFA().wants(Reading(classes=classes, accuracy=accuracy)) is reached
    assert not BFA(level=0.01).wants(Reading(classes=classes, accuracy=0.0105))
