"""Random flips: uniform, each bit once, and only those that are allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.outcome import flipped
from casemate.hardware.attacks.random_flips import RandomFlips
from casemate.hardware.attacks.samples import Samples
from casemate.random import stream


@pytest.fixture(scope="module")
def pair(linear):
    made = linear(torch.eye(4) + 0.1)
    return made, Samples(x=torch.eye(4), labels=torch.arange(4))


def test_every_bit_flips_once_at_most(pair):
    made, samples = pair
    low, high = made.memory.span("0.weight")
    outcome = RandomFlips(budget=high - low).run(made, samples, samples, stream(0, "flips"))
    assert outcome.numbers.tolist() == list(range(low, high))
    assert outcome.ended == "budget"


def test_bits_are_drawn_uniformly_over_all_tensors(deployed, digits):
    made, (_, evaluation) = deployed(name="int8"), digits
    few = evaluation.at(torch.arange(2))
    outcome = RandomFlips(budget=400).run(made, few, few, stream(0, "flips"))
    drawn = [f.fault.tensor for f in outcome.flips]
    sizes = {r.name: r.bits for r in made.memory.where(roles=["weight"])}
    total = sum(sizes.values())
    for name, size in sizes.items():
        expected = 400 * size / total
        assert abs(drawn.count(name) - expected) < 4 * expected**0.5 + 1
    assert abs(np.mean([f.fault.bit for f in outcome.flips]) - 3.5) < 0.4


def test_readings_are_those_of_the_model_with_these_flips(pair):
    made, samples = pair
    outcome = RandomFlips(budget=12).run(made, samples, samples, stream(1, "flips"))
    for k, flip in enumerate(outcome.flips):
        after = flipped(made, np.array([f.number for f in outcome.flips[: k + 1]]))
        right = after.scores(samples.x).argmax(1) == samples.labels
        assert flip.reading.accuracy == pytest.approx(float(right.double().mean()))


def test_a_level_ends_it(pair):
    made, samples = pair
    outcome = RandomFlips(budget=100, level=0.5).run(made, samples, samples, stream(0, "flips"))
    assert outcome.reached
    assert outcome.after.accuracy <= 0.5
    assert all(f.reading.accuracy > 0.5 for f in outcome.flips[:-1])


@pytest.mark.parametrize("source", [None, 1])
def test_with_a_target_its_share_of_the_others_is_read(pair, source):
    made, samples = pair
    shares = []
    for seed in range(8):
        attack = RandomFlips(budget=100, target=2, source=source)
        outcome = attack.run(made, samples, samples, stream(seed, "flips"))
        aimed = [0, 1, 3] if source is None else [source]
        after = flipped(made, outcome.numbers).scores(samples.x).argmax(1)
        assert outcome.before.success == 0.0
        assert outcome.after.success == float((after[aimed] == 2).double().mean())
        shares.append(outcome.after.success)
    assert 0 < np.mean(shares) < 1  # by chance


def test_only_placed_bits_flip(deployed, digits):
    made, (_, evaluation) = deployed(name="int8"), digits
    attack = RandomFlips(budget=20, layers=("6",))
    outcome = attack.run(made, evaluation, evaluation, stream(0, "flips"))
    assert {f.fault.tensor for f in outcome.flips} == {"6.weight"}
    after = flipped(made, outcome.numbers)  # what stands before the layer is not computed again
    right = after.scores(evaluation.x).argmax(1) == evaluation.labels
    assert outcome.after.accuracy == pytest.approx(float(right.double().mean()))


def test_what_makes_no_sense_is_one_sentence(pair):
    with pytest.raises(ParameterError, match="budget must be a whole number"):
        RandomFlips(budget=0)
    with pytest.raises(UsageError, match="1000 different bits are asked for"):
        RandomFlips(budget=1000).run(pair[0], pair[1], *pair[1:], stream(0, "flips"))
    with pytest.raises(ParameterError, match="source is 1, but there is no target"):
        RandomFlips(source=1)
    with pytest.raises(ParameterError, match="source is 1, and so is target"):
        RandomFlips(target=1, source=1)
    with pytest.raises(ParameterError, match="target is the label 4, but"):
        RandomFlips(target=4).check(pair[0])
    with pytest.raises(UsageError, match='has no layer "fc"'):
        RandomFlips(layers=("fc",)).run(pair[0], pair[1], *pair[1:], stream(0, "flips"))


def test_a_target_needs_inputs_that_it_may_lead_there(pair):
    made, samples = pair
    some = Samples(x=samples.x[:2], labels=samples.labels[:2])
    with pytest.raises(UsageError, match="have no inputs that the attack aims at; add some"):
        RandomFlips(budget=2, target=1, source=3).run(made, some, some, stream(0, "flips"))
