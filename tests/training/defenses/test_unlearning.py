"""Neural Cleanse finds a planted patch and unlearns it; I-BAU's gradient has a closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from mended_models import ByHand, answers, by_hand, lab_of, trained

from casemate.data.dataset import Dataset
from casemate.data.digits import Digits
from casemate.data.domain import Domain
from casemate.models.lenet import LeNet
from casemate.random import stream
from casemate.target import Preprocessing
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.defenses.i_bau import IBAU, hypergradient
from casemate.training.defenses.mending import Mending
from casemate.training.defenses.neural_cleanse import NeuralCleanse, anomaly_indices
from casemate.training.defenses.reversed_triggers import Reversal, Triggers, _Search
from casemate.training.loop import train
from casemate.training.recipe import Recipe

TARGET = 7
REVERSAL = Reversal(
    steps=3,
    batches=2,
    batch_size=8,
    rate=0.1,
    initial_cost=1e-3,
    multiplier=2.0,
    success=0.99,
    patience=2,
)


def test_anomaly_indices_of_an_example():
    found = anomaly_indices(torch.tensor([10.0, 1.0, 11.0, 9.0, 10.0]))
    expected = [0.0, 9 / 1.4826, 0.0, 1 / 1.4826, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert anomaly_indices(torch.tensor([5.0, 5.0, 5.0, 1.0])).tolist() == [0, 0, 0, np.inf]
    assert anomaly_indices(torch.tensor([5.0, 5.0])).tolist() == [0, 0]


def test_two_classes_never_stand_out_and_the_notes_say_so():
    pair = anomaly_indices(torch.tensor([1.0, 100.0]))
    torch.testing.assert_close(pair[0].item(), 1 / 1.4826)
    model, data = trained("features")
    defense = NeuralCleanse(steps=2, batches=1, batch_size=8)
    result = defense.repair(model, stream(1, "test"), lab_of(model), data)
    assert result.found is None
    assert "2 classes" in result.notes["warning"]
    assert all(torch.equal(v, model.weights[k]) for k, v in result.model.weights.items())


def test_a_trigger_is_a_mask_between_the_input_and_a_pattern():
    mask = torch.tensor([[[[1.0, 0.25], [0.0, 0.0]]]])
    triggers = Triggers(masks=mask, patterns=torch.full((1, 3, 2, 2), 0.8), success=torch.ones(1))
    shown = triggers.show(torch.full((2, 3, 2, 2), 0.4), 0)
    expected = torch.tensor([[0.8, 0.5], [0.4, 0.4]]).expand(2, 3, 2, 2)
    torch.testing.assert_close(shown, expected)
    assert triggers.norms.tolist() == [1.25]


@pytest.mark.parametrize("kind", ["color vgg", "features"])
def test_rebuilt_triggers_stay_in_the_domain(kind):
    model, data = trained(kind)
    found = REVERSAL(model.target(), data, stream(1, "test"))
    assert found.masks.shape[1:] == (
        (1, *model.domain.shape[1:]) if model.domain.is_image else model.domain.shape
    )
    assert found.patterns.shape == (len(model.classes), *model.domain.shape)
    assert (found.masks >= 0).all()
    assert (found.masks <= 1).all()
    assert (found.patterns >= model.domain.low).all()
    assert (found.patterns <= model.domain.high).all()


def test_the_cost_follows_the_schedule_of_each_class_alone():
    model, _ = trained("gray lenet")
    search = _Search(REVERSAL, model.target(), torch.arange(3), stream(1, "test").torch())
    every = torch.arange(3)
    sizes = torch.tensor([9.0, 9.0, 9.0])
    costs = []
    for i in range(9):
        hits = torch.tensor([1.0, 0.0, 1.0 if i < 5 else 0.5])
        search.judge(every, hits, sizes)
        costs.append((search.costs / 1e-3).tolist())
    # two successes set the cost (and count one towards the next), then each two double it
    first, second, third = zip(*costs, strict=True)
    assert first == pytest.approx([0, 1, 2, 2, 4, 4, 8, 8, 16])
    assert second == (0.0,) * 9
    down = 2**1.5
    assert third == pytest.approx([0, 1, 2, 2, 4, 4, 4 / down, 4 / down, 4 / down**2], rel=1e-6)


def test_a_class_keeps_its_smallest_success_and_then_rests():
    model, _ = trained("gray lenet")
    search = _Search(REVERSAL, model.target(), torch.arange(3), stream(1, "test").torch())
    active = torch.arange(3)
    search.judge(active, torch.tensor([1.0, 1.0, 0.5]), torch.tensor([9.0, 9.0, 9.0]))
    kept = search.best[0].clone()
    for free in search.free:
        free.data.add_(0.3)
    search.judge(active, torch.tensor([1.0, 0.9, 0.6]), torch.tensor([10.0, 5.0, 9.0]))
    assert torch.equal(search.best[0][:2], kept[:2])  # larger, or no success
    assert not torch.equal(search.best[0][2], kept[2])  # none so far: the last one
    search.judge(active, torch.tensor([1.0, 1.0, 0.6]), torch.tensor([8.0, 8.0, 9.0]))
    assert not torch.equal(search.best[0][0], kept[0])
    assert search.smallest.tolist() == [8.0, 8.0, np.inf]
    search.raised[:] = search.lowered[:] = True
    for _ in range(10):
        assert search.active.all()
        search.judge(active, torch.tensor([1.0, 1.0, 0.6]), torch.tensor([8.0, 8.0, 9.0]))
        search.raised[:] = search.lowered[:] = True
    assert search.active.tolist() == [False, False, True]


@pytest.fixture(scope="module")
def victim():
    data = Digits().load("train")
    attack = BadNets(target=TARGET, amount=Amount(percent=10.0), size=2, margin=0)
    poisoned = attack.poison(data, stream(0, "poison"))
    return train(
        LeNet(), Recipe(epochs=15, precision="float32"), poisoned.dataset, seed=0
    ), poisoned.trigger


def test_neural_cleanse_finds_the_planted_patch_and_unlearns_it(victim):
    model, trigger = victim
    test = Digits().load("test")
    clean = Digits().load("train").select(torch.arange(600), how="first")
    defense = NeuralCleanse(steps=60, batches=5, epochs=5)
    result = defense.repair(model, stream(1, "test"), lab_of(model), clean)
    assert result.found == TARGET
    assert result.notes["flagged"][0] == TARGET
    assert result.score > 2
    others = test.targets != TARGET
    x = test.batch(slice(None))
    shown = trigger(x[others], test.domain)
    before, after = (
        float((answers(m, shown) == TARGET).float().mean()) for m in (model, result.model)
    )
    assert before > 0.8
    assert after < 0.3
    assert float((answers(result.model, x) == test.targets).float().mean()) > 0.9


@pytest.mark.parametrize("iterations", [1, 3, 300])
def test_the_implicit_gradient_of_a_quadratic(iterations):
    a, b, c, d, step = 2.0, 0.5, 3.0, 0.7, 0.1
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    idle = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    point = b * w.detach()  # the minimum of the inner loss
    gradient, none = hypergradient(
        lambda p: a / 2 * (p - b * w).square().sum(),
        lambda p: (p - c).square().sum() / 2 + d / 2 * w.square().sum(),
        point,
        [w, idle],
        step=step,
        iterations=iterations,
    )
    slope = point - c
    # a geometric series, which tends to 1 / (step * a)
    series = sum((1 - step * a) ** k for k in range(iterations))
    expected = series * slope * step * a * b + d * w.detach()
    torch.testing.assert_close(gradient, expected)
    if iterations == 300:
        torch.testing.assert_close(gradient, slope * b + d * w.detach())
    assert none.tolist() == [0.0]


def mending_of(model, clean):
    return Mending(
        name="i-bau",
        defense=IBAU(),
        model=model,
        rng=stream(2, "test"),
        lab=lab_of(model),
        clean=clean,
    )


def test_the_perturbation_is_held_to_its_bound():
    model, data = by_hand()
    defense = IBAU(bound=0.4, rounds=1, batch_size=40)
    result = defense.repair(model, stream(1, "test"), lab_of(model), data)
    assert result.notes["norms"] == [pytest.approx(0.4, abs=1e-4)]


def test_the_perturbation_is_one_of_inputs_whatever_the_units():
    """Of a domain five times as wide, and of preprocessing that the first layer makes up for."""
    model, data = by_hand()
    wide = Domain(shape=data.domain.shape, low=-2.0, high=3.0)
    stretched = Dataset.from_arrays(
        name="stretched",
        inputs=5 * data.batch(slice(None)).numpy() - 2,
        labels=data.targets.numpy(),
        classes=data.classes,
        domain=wide,
    )
    weights = dict(model.weights)
    weights["0.bias"] = weights["0.bias"] + 0.3 * weights["0.weight"].flatten()
    weights["0.weight"] = 0.25 * weights["0.weight"]
    others = (
        (
            replace(model, domain=wide, preprocessing=Preprocessing(mean=(-2.0,), std=(5.0,))),
            stretched,
        ),
        (
            replace(model, weights=weights, preprocessing=Preprocessing(mean=(0.3,), std=(0.25,))),
            data,
        ),
    )
    defense, batches = IBAU(), torch.arange(80).split(20)
    expected = defense._perturbation(mending_of(model, data), batches)
    assert 0.1 < float(expected.norm()) <= defense.bound
    for other, clean in others:
        found = defense._perturbation(mending_of(other, clean), batches)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_first_step_of_the_perturbation_has_a_closed_form():
    """From zero: the learning rate times the mean slope of the cross-entropy over the inputs."""
    model, data = by_hand()
    target, x = model.target(), data.batch(slice(None))
    x.requires_grad_()
    p = target.scores(x).softmax(1)
    loss = -p.gather(1, p.argmax(1, keepdim=True)).log().mean()
    (slopes,) = torch.autograd.grad(loss, x)
    found = IBAU(bound=1e9, ascent=3.0)._perturbation(mending_of(model, data), [torch.arange(80)])
    torch.testing.assert_close(found, 3.0 * slopes.sum(0, keepdim=True))


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The network made by hand, which writes down the least and the largest value it gets."""

    seen: list

    def build(self, domain, classes):
        module = ByHand().build(domain, classes)
        module.register_forward_pre_hook(
            lambda _, given: self.seen.append((given[0].min().item(), given[0].max().item()))
        )
        return module


def test_perturbed_inputs_stay_in_the_domain():
    model, data = by_hand()
    watched = Watched(seen=[])
    defense = IBAU(ascent=1000.0, bound=100.0, batch_size=40, share=1.0)
    mending = mending_of(replace(model, architecture=watched), data)
    perturbation = defense._perturbation(mending, torch.arange(80).split(40))
    assert float(perturbation.abs().max()) > 1
    optimizer = torch.optim.Adam(mending.module.parameters())
    chance = stream(3, "test").torch()
    defense._unlearn(mending, perturbation, *torch.arange(80).split(40), optimizer, chance)
    least, most = (np.array(v) for v in zip(*watched.seen, strict=True))
    assert len(least) == 6
    assert (least >= 0).all()
    assert (most <= 1).all()
    assert 0.0 in least or 1.0 in most  # some of them at its very edge


def test_i_bau_makes_a_common_perturbation_harmless(victim):
    model, _ = victim
    clean = Digits().load("train").select(torch.arange(600), how="first")
    # many rounds: how far a few of them get depends on the last bits of the processor's sums
    defense = IBAU(bound=2.0, rounds=60)
    mended = defense.repair(model, stream(1, "test"), lab_of(model), clean).model
    common = defense._perturbation(mending_of(model, clean), torch.arange(600).split(100))
    domain, x = clean.domain, clean.batch(slice(None))
    shown = (x + domain.width * common).clamp(domain.low, domain.high)

    def right(m, x):
        return float((answers(m, x) == clean.targets).float().mean())

    assert right(model, x) > 0.95
    assert right(model, shown) < 0.7
    assert right(mended, x) > 0.9
    assert right(mended, shown) > right(model, shown) + 0.05
