"""The progressive search takes the best flips, and only those that it may."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from casemate.errors import ParameterError
from casemate.hardware.attacks.objectives import CrossEntropy
from casemate.hardware.attacks.outcome import flipped
from casemate.hardware.attacks.progressive import ProgressiveSearch
from casemate.hardware.attacks.samples import Samples


def never(reading):
    return False


@pytest.fixture(scope="module")
def tiny(linear):
    """A linear model of three classes, and inputs that it reads right."""
    rng = torch.Generator().manual_seed(3)
    made = linear(torch.randn(3, 4, generator=rng))
    x = torch.randn(60, 4, generator=rng)
    return made, Samples(x=x, labels=made.scores(x).argmax(1))


def run(made, samples, search, *, goal=never, constraint=None, layers=None):
    regions = made.memory.where(roles=["weight"], layers=layers)
    return search.run(made, samples, regions, evaluation=samples, goal=goal, constraint=constraint)


def loss_of(made, samples):
    return float(CrossEntropy()(made.scores(samples.x), samples.labels))


class Allowed:
    """Some bits, and no more than `most` of them together."""

    def __init__(self, numbers, most=10**9):
        self.numbers, self.most, self.added = set(numbers), most, []

    def allowed(self, numbers):
        return np.isin(numbers, list(self.numbers))

    def possible(self, numbers):
        return self.allowed(numbers) & (len(self.added) < self.most)

    def add(self, number):
        self.added.append(number)


def test_the_first_flip_is_the_best_of_all(tiny):
    made, samples = tiny
    low, high = made.memory.span("0.weight")
    losses = [loss_of(flipped(made, np.array([n])), samples) for n in range(low, high)]
    search = ProgressiveSearch(objective=CrossEntropy(), budget=1, candidates=high - low, widest=96)
    outcome = run(made, samples, search)
    assert outcome.numbers.tolist() == [low + int(np.argmax(losses))]
    assert outcome.flips[0].loss == pytest.approx(max(losses))
    assert outcome.ended == "budget"


def test_readings_are_those_of_the_model_with_these_flips(deployed, digits):
    made, (pool, evaluation) = deployed(name="int8"), digits
    batch = pool.at(torch.arange(64))
    search = ProgressiveSearch(objective=CrossEntropy(), budget=4, candidates=2)
    regions = made.memory.where(roles=["weight"])
    outcome = search.run(made, batch, regions, evaluation=evaluation, goal=never)
    for k, flip in enumerate(outcome.flips):
        after = flipped(made, np.array([f.number for f in outcome.flips[: k + 1]]))
        right = after.scores(evaluation.x).argmax(1) == evaluation.labels
        assert flip.reading.accuracy == pytest.approx(float(right.double().mean()))
        assert flip.loss == pytest.approx(loss_of(after, batch), rel=1e-6)
        assert made.memory.number(flip.fault) == flip.number
    losses = [f.loss for f in outcome.flips]
    assert losses == sorted(losses)
    assert losses[0] > loss_of(made, batch)
    assert outcome.spent.backward == 4 * 64
    assert outcome.distance == len(outcome.flips) == 4


def test_the_search_leaves_the_model_as_it_is(tiny):
    made, samples = tiny
    words = made.memory["0.weight"].words.clone()
    values = made.memory.values["0.weight"].clone()
    run(made, samples, ProgressiveSearch(objective=CrossEntropy(), budget=3))
    assert torch.equal(made.memory["0.weight"].words, words)
    assert torch.equal(made.memory.values["0.weight"], values)


def test_it_stops_at_the_goal(tiny):
    made, samples = tiny
    search = ProgressiveSearch(objective=CrossEntropy(), budget=20)
    outcome = run(made, samples, search, goal=lambda reading: reading.accuracy <= 0.6)
    assert outcome.reached
    assert outcome.after.accuracy <= 0.6 < outcome.flips[-2].reading.accuracy
    outcome = run(made, samples, search, goal=lambda reading: reading.accuracy <= 1.0)
    assert outcome.reached
    assert outcome.flips == ()


def test_it_flips_allowed_bits_only(tiny):
    made, samples = tiny
    low, high = made.memory.span("0.weight")
    constraint = Allowed(range(low, high, 3))
    search = ProgressiveSearch(objective=CrossEntropy(), budget=5)
    outcome = run(made, samples, search, constraint=constraint)
    assert outcome.flips
    assert all((f.number - low) % 3 == 0 for f in outcome.flips)
    assert constraint.added == [f.number for f in outcome.flips]


def test_it_asks_what_is_possible_beside_the_flips_before(tiny):
    made, samples = tiny
    search = ProgressiveSearch(objective=CrossEntropy(), budget=5)
    constraint = Allowed(range(made.memory.bits), most=2)
    outcome = run(made, samples, search, constraint=constraint)
    assert outcome.ended == "stuck"
    assert len(outcome.flips) == 2


def test_it_is_stuck_where_nothing_helps(tiny):
    made, samples = tiny
    outcome = run(
        made, samples, ProgressiveSearch(objective=CrossEntropy(), budget=5), constraint=Allowed([])
    )
    assert outcome.ended == "stuck"
    assert not outcome.reached
    assert outcome.flips == ()
    assert outcome.after == outcome.before


class Corners:
    """Bit 6 of three weights counts: A alone 1, A and B 2, all 3, and B and C without A 4."""

    values: ClassVar = {(1, 0, 0): 1.0, (1, 1, 0): 2.0, (1, 1, 1): 3.0, (0, 1, 1): 4.0}

    def __call__(self, scores, labels):
        own = scores.diagonal()
        is_flipped = own < 0.75  # 63 of 127 and not all of them
        if scores.requires_grad:  # leads each of the three to its other value
            return (own * (is_flipped * 2.0 - 1)).sum()
        exact = torch.isclose(own, torch.where(is_flipped, 63 / 127, 1.0).double()).all()
        state = tuple(is_flipped.long().tolist())
        return torch.tensor(self.values.get(state, 0.0) if exact else -1.0)


@pytest.mark.parametrize("flip_back", [False, True])
def test_it_flips_nothing_back_unless_allowed(linear, flip_back):
    samples = Samples(x=torch.eye(3), labels=torch.arange(3))
    search = ProgressiveSearch(objective=Corners(), budget=9, widest=72, flip_back=flip_back)
    outcome = run(linear(torch.eye(3)), samples, search)
    assert [f.fault.index for f in outcome.flips[:3]] == [(0, 0), (1, 1), (2, 2)]
    assert len(outcome.flips) == (4 if flip_back else 3)
    assert outcome.distance == (2 if flip_back else 3)
    assert outcome.ended == "stuck"


def test_where_the_first_candidate_does_not_help_more_are_tried(linear):
    made = linear([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 0.1]])
    samples = Samples(x=x, labels=torch.tensor([0, 1, 2]))

    class Picky:
        """Only one bit helps, whatever the gradient says."""

        def __call__(self, scores, labels):
            smooth = CrossEntropy()(scores, labels)
            helps = (scores[0, 0] - 0.5).abs() < 0.02  # 127 -> 63
            return smooth if scores.requires_grad else helps.double()

    search = ProgressiveSearch(objective=Picky(), budget=1)
    outcome = run(made, samples, search)
    assert [str(f.fault) for f in outcome.flips] == ["0.weight[0, 0] bit 6"]
    narrow = ProgressiveSearch(objective=Picky(), budget=1, widest=1)
    assert run(made, samples, narrow).ended == "stuck"


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"candidates": 0}, {"widest": 0}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ParameterError, match=f"{next(iter(wrong))} must be a whole number"):
        ProgressiveSearch(**{"objective": CrossEntropy(), "budget": 1, **wrong})
