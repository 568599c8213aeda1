"""T-BFA leads inputs to a class, and the stealthy variant nobody else's."""

from __future__ import annotations

import pytest
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.attacks.tbfa import TBFA
from casemate.random import stream
from casemate.threats import Stage, taxonomy

CLASSES = 4


@pytest.fixture(scope="module")
def apart(linear):
    """Each class has an input of its own, so that a class can move alone."""
    x = torch.eye(CLASSES).repeat(5, 1)
    return linear(torch.eye(CLASSES)), Samples(x=x, labels=torch.arange(CLASSES).repeat(5))


@pytest.fixture(scope="module")
def shared(linear):
    """The source has an input of its own, and a larger one that it shares with class 2."""
    rows = torch.tensor([[0.7, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.4], [-0.7, 0.5, 0.0]])
    return linear(20 * weight), Samples(x=rows.repeat(4, 1), labels=torch.arange(3).repeat(4))


@pytest.mark.parametrize("variant", ["1 to 1", "1 to 1 stealthy"])
@pytest.mark.parametrize(("source", "target"), [(0, 1), (3, 2), (2, 0)])
def test_one_class_moves_alone(apart, variant, source, target):
    made, samples = apart
    attack = TBFA(source=source, target=target, variant=variant)
    outcome = attack.run(made, samples, samples, stream(0, "tbfa"))
    assert outcome.before.success == 0.0
    assert outcome.reached
    assert outcome.after.success == 1.0
    assert outcome.after.others == 1.0
    assert outcome.after.accuracy == pytest.approx(1 - 1 / CLASSES)
    assert all(f.fault.index[1] == source for f in outcome.flips)


def test_all_classes_move_to_one(apart):
    made, samples = apart
    outcome = TBFA(target=2).run(made, samples, samples, stream(0, "tbfa"))
    assert outcome.reached
    assert outcome.after.accuracy == pytest.approx(1 / CLASSES)
    assert outcome.after.others == 1.0


def test_the_stealthy_variant_spares_those_that_share_an_input(shared):
    made, samples = shared
    after = {}
    for variant in ("1 to 1", "1 to 1 stealthy"):
        attack = TBFA(source=0, target=1, variant=variant, budget=10)
        outcome = attack.run(made, samples, samples, stream(0, "tbfa"))
        assert outcome.before.accuracy == 1.0
        assert outcome.reached
        after[variant] = outcome.after
    assert after["1 to 1"].others == 0.5
    assert after["1 to 1 stealthy"].others == 1.0


def test_digits_move_to_another_and_the_rest_stays(deployed, digits):
    pool, evaluation = digits
    attack = TBFA(source=3, target=8, variant="1 to 1 stealthy", success=0.9, others=100, batch=60)
    outcome = attack.run(deployed(name="int8"), pool, evaluation, stream(0, "tbfa"))
    assert outcome.reached
    assert outcome.before.success < 0.1
    assert outcome.after.others > 0.8
    assert outcome.spent.backward == len(outcome.flips) * 160


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"budget": 0}, "budget must be a whole number from 1 to 2147483647, got 0"),
        ({"source": 2}, 'source is 2, but the variant "N to 1" leads all classes to the target'),
        ({"variant": "1 to 1"}, 'source is missing, but the variant "1 to 1" needs a class'),
        ({"variant": "1 to 1", "source": 1}, "source is 1, and so is target; give two classes"),
        ({"variant": "all"}, 'variant is "all", but must be one of N to 1'),
        ({"success": 0}, "success must be a number"),
        ({"balance": -1}, "balance must be a number"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(wrong, told):
    with pytest.raises(ParameterError, match=told):
        TBFA(**{"target": 1, **wrong})


def test_what_does_not_fit_the_model_or_data_is_one_sentence(apart):
    made, samples = apart

    def run(attack, pool=samples, evaluation=samples):
        attack.run(made, pool, evaluation, stream(0, "tbfa"))

    one = samples.at(samples.labels == 1)
    with pytest.raises(ParameterError, match="target is the label 9, but the model knows"):
        run(TBFA(target=9))
    with pytest.raises(UsageError, match='no layer "fc"'):
        run(TBFA(target=1, layers=("fc",)))
    with pytest.raises(UsageError, match="hold none of class 0, the source"):
        run(TBFA(target=1, source=0, variant="1 to 1"), pool=one)
    with pytest.raises(UsageError, match="are all of the source"):
        run(TBFA(target=0, source=1, variant="1 to 1 stealthy"), pool=one)
    with pytest.raises(UsageError, match="have no inputs that the attack aims at"):
        run(TBFA(target=1), evaluation=one)


def test_the_threat_is_in_the_taxonomy():
    assert Stage.HARDWARE in taxonomy()[TBFA.threat.threat].stages
