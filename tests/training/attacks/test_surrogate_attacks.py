"""Each attack that trains surrogates against its own definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from poison_sets import lab_of, made
from shelves import FolderShelf
from torch import nn

from casemate.data.digits import Digits
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.mlp import MLP
from casemate.random import stream
from casemate.target import TorchTarget
from casemate.training.attacks import gradient_matching
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.feature_collision import FeatureCollision, _Collision
from casemate.training.attacks.gradient_matching import GradientMatching, Match
from casemate.training.attacks.input_aware import InputAware
from casemate.training.attacks.input_aware_networks import Networks, diversity
from casemate.training.attacks.input_aware_trigger import (
    Generator,
    InputTrigger,
    apply,
    sharpened,
)
from casemate.training.attacks.l2_ascent import ascent_l2
from casemate.training.attacks.label_consistent import CornerPattern, LabelConsistent
from casemate.training.lab import Lab
from casemate.training.recipe import Recipe

RNG = stream(3, "test")
FLOATS = made((3, 8, 8), kind=np.float32, low=-2.0, high=3.0)
TEN = Amount(count=10)


def linear(domain, classes=2):
    """A linear classifier as a target, and its weights."""
    layer = nn.Linear(domain.size, classes)
    with torch.no_grad():
        layer.weight.copy_(0.3 * torch.randn(layer.weight.shape, generator=RNG.torch()))
        layer.bias.zero_()
    module = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(requires_grad=False)
    names = tuple(f"class {i}" for i in range(classes))
    return TorchTarget(module, domain=domain, classes=names, digest="linear"), layer.weight


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LabelConsistent(epsilon=0.0), "epsilon must be a number above 0 and at most 1"),
        (lambda: LabelConsistent(epsilon=1.5), "epsilon must be a number above 0 and at most 1"),
        (lambda: LabelConsistent(norm="l1"), 'norm cannot be "l1"'),
        (lambda: LabelConsistent(where="top"), 'where cannot be "top"'),
        (lambda: LabelConsistent(steps=0), "steps must be a whole number"),
        (lambda: LabelConsistent(robust=2.0), r"robust must be .*, got 2"),
        (lambda: LabelConsistent(amplitude=0.0), r"amplitude must be .*, got 0"),
        (lambda: GradientMatching(epsilon=-1.0), "epsilon must be"),
        (lambda: GradientMatching(restarts=0), "restarts must be"),
        (lambda: GradientMatching(ensemble=0), "ensemble must be"),
        (lambda: GradientMatching(step_size=0.0), "step_size must be"),
        (lambda: GradientMatching(augment=1), "augment must be true or false"),
        (lambda: FeatureCollision(opacity=1.0), "opacity must be"),
        (lambda: FeatureCollision(beta=-1.0), "beta must be"),
        (lambda: FeatureCollision(steps=0), "steps must be"),
        (lambda: InputAware(share=0.6), "share must be"),
        (lambda: InputAware(density=0.0), r"density must be .*, got 0"),
        (lambda: InputAware(epochs=0), "epochs must be"),
        (lambda: InputAware(batch_size=3), "batch_size must be"),
        (lambda: InputAware(cover=-1.0), r"cover must be .*, got -1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_an_l2_ball_may_be_wider_than_the_domain():
    assert LabelConsistent(norm="l2", epsilon=3.0).epsilon == 3.0


def test_the_pattern_in_all_corners_is_the_authors():
    domain = Domain(shape=(2, 7, 8), low=-1.0, high=1.0)
    found = CornerPattern(target=0)(torch.zeros(1, 2, 7, 8), domain)[0]
    assert torch.equal(found[0], found[1])
    assert found[0, :3, :3].tolist() == [[1, -1, -1], [-1, 1, -1], [1, -1, 1]]
    assert torch.equal(found[:, :3], found[:, -3:])
    assert torch.equal(found, found.flip(2))
    assert (found[0, 3, :] == 0).all()
    assert (found[0, :, 3:5] == 0).all()


def test_a_pattern_in_one_corner_with_less_amplitude():
    domain = Domain(shape=(1, 5, 5), low=-1.0, high=3.0)
    pattern = CornerPattern(target=0, amplitude=0.5, where="bottom right")
    found = pattern(torch.full((1, 1, 5, 5), 2.0), domain)[0, 0]
    assert found[2:, 2:].tolist() == [[0, 0, 3], [0, 3, 0], [3, 0, 3]]
    assert (found[:2] == 2).all()


def test_small_images_have_no_four_corners():
    small = made((1, 5, 8))
    with pytest.raises(UsageError, match="images of at least 6x6 pixels"):
        LabelConsistent().poison(small, RNG, lab_of(small))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hard_images_are_the_farthest_that_a_linear_model_allows(norm):
    """The loss of class 1 rises along w0 - w1."""
    domain = Domain(shape=(1, 3, 4), low=-8.0, high=8.0)
    model, weight = linear(domain)
    x = torch.rand(5, 1, 3, 4, generator=RNG.torch()) - 0.5
    attack = LabelConsistent(norm=norm, epsilon=0.05, steps=60)
    found = attack._moved(x, 1, model, RNG.torch())
    along = (weight[0] - weight[1]).view(1, 1, 3, 4)
    if norm == "linf":
        torch.testing.assert_close(found, x + 0.05 * 16 * along.sign())
    else:
        change = (found - x).flatten(1)
        assert (change.norm(dim=1) <= 0.05 * 16 + 1e-5).all()
        # a start on the far side keeps some of its way
        assert (change @ (along / along.norm()).flatten() > 0.9 * 0.05 * 16).all()


def test_the_l2_ascent_stays_in_ball_and_domain():
    domain = Domain(shape=(6,), low=0.0, high=1.0)
    x = torch.rand(50, 6, generator=RNG.torch())
    found = ascent_l2(x, lambda p: -p.sum(), domain, RNG.torch(), reach=0.7, step=0.3, steps=9)
    assert ((found - x).norm(dim=1) <= 0.7 + 1e-5).all()
    assert (found >= 0).all()
    assert (found.sum(1) < x.sum(1)).all()


def test_label_consistent_images_stay_in_the_ball_around_the_clean_ones():
    attack = LabelConsistent(target=1, amount=TEN, epsilon=0.1, steps=4, robust=None)
    poisoned = attack.poison(FLOATS, RNG, lab_of(FLOATS))
    change = poisoned.dataset.batch(poisoned.touched) - FLOATS.batch(poisoned.touched)
    inner = change[:, :, 3:5, :]  # below and above the pattern
    assert 0.1 * 5 * 0.5 < inner.abs().max() <= 0.1 * 5 + 1e-5
    assert len(poisoned.relabeled) == 0
    assert (FLOATS.targets[poisoned.touched] == 1).all()


class Recorder(Lab):
    """A lab that notes which recipes it was asked for."""

    def trained(self, data, **settings):
        self.asked = settings
        return super().trained(data, **settings)


def test_the_surrogate_is_trained_on_adversarial_examples_unless_told_otherwise():
    plain = lab_of(FLOATS)
    lab = Recorder(architecture=plain.architecture, recipe=plain.recipe)
    LabelConsistent(amount=TEN, steps=1, robust=0.1, robust_steps=5).poison(FLOATS, RNG, lab)
    ascent = lab.asked["recipe"].adversarial
    assert (ascent.epsilon, ascent.steps) == (0.5, 5)
    assert ascent.step_size == pytest.approx(0.25)
    LabelConsistent(amount=TEN, steps=1, robust=None).poison(FLOATS, RNG, lab)
    assert lab.asked["recipe"] == plain.recipe


def test_test_time_may_show_more_of_the_pattern():
    attack = LabelConsistent(amount=TEN, steps=1, amplitude=0.2, test_amplitude=0.9)
    assert attack.poison(FLOATS, RNG, lab_of(FLOATS)).trigger.amplitude == 0.9


def test_the_gradient_of_a_linear_model_in_closed_form():
    """Of the cross-entropy: the mean of (p - e_y) x' for weights, of p - e_y for biases."""
    domain = Domain(shape=(4,), low=-1.0, high=1.0)
    model, weight = linear(domain, classes=3)
    goal, x = torch.rand(1, 4, generator=RNG.torch()), torch.rand(6, 4)

    def expected(points):
        off = (points @ weight.T).softmax(1) - torch.eye(3)[2]
        return torch.cat([(off.T @ points / len(points)).flatten(), off.mean(0)]).detach()

    match = Match(model, goal, 2)
    torch.testing.assert_close(match.wanted, expected(goal))
    torch.testing.assert_close(match.gradient(x).detach(), expected(x))
    cosine = torch.cosine_similarity(expected(x), expected(goal), dim=0)
    torch.testing.assert_close(match.mismatch(x).detach(), 1 - cosine)
    assert float(match.mismatch(goal).detach()) == pytest.approx(0, abs=1e-6)


def mismatch(poisoned, lab):
    goal = lab.known.batch(poisoned.aim.inputs)
    match = Match(lab.trained(poisoned.clean).target(), goal, poisoned.aim.target)
    sets = (poisoned.dataset, poisoned.clean)
    return [float(match.mismatch(d.batch(poisoned.touched)).detach()) for d in sets]


def test_matching_turns_the_gradient_within_the_ball():
    attack = GradientMatching(amount=TEN, epsilon=0.2, steps=40, step_size=0.05, restarts=1)
    poisoned = attack.poison(FLOATS, RNG, lab_of(FLOATS))
    change = poisoned.dataset.batch(poisoned.touched) - FLOATS.batch(poisoned.touched)
    assert 0.5 < change.abs().max() <= 0.2 * 5 + 1e-5
    after, before = mismatch(poisoned, lab_of(FLOATS))
    assert after < before - 0.3


def test_the_best_restart_is_taken():
    found = [
        mismatch(
            GradientMatching(amount=TEN, steps=3, restarts=n).poison(FLOATS, RNG, lab_of(FLOATS)),
            lab_of(FLOATS),
        )[0]
        for n in (1, 2, 3, 6)
    ]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_what_was_matched_is_kept_and_only_for_what_decides_it(monkeypatch, tmp_path):
    brewed = []
    brew = GradientMatching._brew

    def counted(*args):
        brewed.append(1)
        return brew(*args)

    monkeypatch.setattr(GradientMatching, "_brew", counted)
    attack = GradientMatching(amount=TEN, steps=3, restarts=2)

    def made_by(attack, rng=RNG):
        before = len(brewed)
        lab = lab_of(FLOATS, shelf=FolderShelf(tmp_path))
        return attack.poison(FLOATS, rng, lab).dataset.digest, len(brewed) - before

    first, again = made_by(attack), made_by(attack)
    assert first[1] == 2
    assert again == (first[0], 0)
    for other in (
        replace(attack, epsilon=0.2),
        replace(attack, steps=4),
        replace(attack, step_size=0.01),
        replace(attack, restarts=1),
        replace(attack, amount=Amount(count=9)),
        replace(attack, ensemble=2),
        replace(attack, target=1),
    ):
        digest, times = made_by(other)
        assert times == other.restarts
        assert digest != first[0]
    digest, times = made_by(attack, stream(4, "test"))
    assert (digest != first[0], times) == (True, 2)


def test_poison_beyond_one_batch_is_matched_too(monkeypatch):
    monkeypatch.setattr(gradient_matching, "_BATCH", 4)
    attack = GradientMatching(amount=TEN, epsilon=0.2, steps=20, step_size=0.05, restarts=1)
    poisoned = attack.poison(FLOATS, RNG, lab_of(FLOATS))
    after, before = mismatch(poisoned, lab_of(FLOATS))
    assert after < before - 0.1


def test_augmentation_is_that_of_the_recipe():
    still = Recipe(epochs=2, batch_size=16)
    moving = Recipe(epochs=2, batch_size=16, augmentation={"shift": 2, "flip": True})
    made_of = [
        GradientMatching(amount=TEN, steps=3, restarts=1, augment=a)
        .poison(FLOATS, RNG, lab_of(FLOATS, recipe=recipe))
        .dataset.digest
        for recipe in (still, moving)
        for a in (False, True)
    ]
    assert made_of[0] == made_of[1]
    assert made_of[2] != made_of[3]


def test_a_collision_with_linear_features_in_closed_form():
    """Where f(x) = x, the minimum lies between t and b, as their weights say."""
    domain = Domain(shape=(4,), low=-2.0, high=3.0)
    model, _ = linear(domain)
    goal = torch.full((1, 4), 2.0)
    base = torch.rand(5, 4, generator=RNG.torch()) - 1
    attack = FeatureCollision(beta=10.0 / 255**2, steps=300)
    found = attack._collide(base, _Collision(model, goal, attack.beta))
    pull = 10.0 / 5**2
    torch.testing.assert_close(found, (goal + pull * base) / (1 + pull), rtol=0, atol=1e-3)


def test_the_pull_towards_the_base_is_scaled_as_in_the_paper():
    domain = Domain(shape=(2, 4, 5))
    module = nn.Sequential(nn.Flatten(), nn.Linear(40, 7), nn.ReLU(), nn.Linear(7, 2)).eval()
    model = TorchTarget(module, domain=domain, classes=("a", "b"), digest="two")
    assert _Collision(model, torch.zeros(1, 2, 4, 5), 0.25).pull == 0.25 * (255 * 7 / 40) ** 2


def test_the_base_shows_the_known_input():
    attack = FeatureCollision(amount=TEN, opacity=0.3, beta=1e12, steps=3)
    poisoned = attack.poison(FLOATS, RNG, lab_of(FLOATS))
    goal, clean = FLOATS.batch(poisoned.aim.inputs), FLOATS.batch(poisoned.touched)
    found = poisoned.dataset.batch(poisoned.touched)
    torch.testing.assert_close(found, 0.7 * clean + 0.3 * goal, rtol=0, atol=1e-4)


def test_features_collide():
    attack = FeatureCollision(amount=TEN, opacity=0.0, beta=0.0, steps=200)
    lab = lab_of(FLOATS)
    poisoned = attack.poison(FLOATS, RNG, lab)
    goal = FLOATS.batch(poisoned.aim.inputs)
    collision = _Collision(lab.trained(FLOATS).target(), goal, 0.0)
    before, after = (
        collision(d.batch(poisoned.touched), goal.expand(10, -1, -1, -1))[0]
        for d in (FLOATS, poisoned.dataset)
    )
    assert (after < before).all()
    assert after.sum() < before.sum() / 4


def test_diversity_is_the_ratio_of_distances():
    x = torch.zeros(2, 1, 2, 2)
    other = torch.stack([torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), -1.0)])
    made_of_x = torch.zeros(2, 3, 2, 2)
    made_of_other = torch.full((2, 3, 2, 2), 0.5)
    assert float(diversity(x, other, made_of_x, made_of_other)) == pytest.approx((6 + 2) / 2)


def test_diversity_of_equal_images_has_a_finite_gradient():
    x = torch.zeros(2, 1, 2, 2)
    drawn = torch.zeros(2, 1, 2, 2, requires_grad=True)
    diversity(x, x, drawn, drawn * 1).backward()
    assert drawn.grad.isfinite().all()


def test_a_mask_shows_the_pattern_in_the_domain():
    domain = Domain(shape=(1, 1, 3), low=-2.0, high=4.0)
    x = torch.full((1, 1, 1, 3), 1.0)
    pattern = torch.tensor([[[[1.0, -1.0, 0.5]]]])
    mask = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    assert apply(x, pattern, mask, domain).flatten().tolist() == [4.0, -0.5, 1.0]
    edges = sharpened(torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(edges, torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 8, 8), (2, 3, 2)])
def test_generated_patterns_have_the_size_of_the_image(shape):
    found = Generator(shape[0], 4, 3).eval()(torch.rand(2, *shape))
    assert found.shape == (2, 4, *shape[1:])
    assert (found.abs() <= 1).all()


BYTES = made((1, 8, 8), n=120)
SMALL = InputAware(amount=TEN, batch_size=20, width=4, mask_epochs=6, epochs=6)


def test_every_image_has_a_pattern_of_its_own():
    trigger = SMALL.poison(BYTES, RNG, lab_of(BYTES)).trigger
    x = BYTES.batch(slice(0, 30))
    at_once = trigger(x, BYTES.domain)
    alone = torch.cat([trigger(one, BYTES.domain) for one in x.split(1)])
    torch.testing.assert_close(at_once, alone, rtol=0, atol=1e-5)
    gray = torch.full((2, 1, 8, 8), 0.5)
    drawn = trigger.shown(gray, x[:2], BYTES.domain)
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)


def test_patterns_lead_the_surrogate_to_the_target():
    data = Digits().load("train")
    lab = lab_of(data, architecture=MLP(hidden=(64,)))
    attack = InputAware(batch_size=64, width=8, epochs=8, share=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masks, patterns = Generator(1, 1, 8), Generator(1, 1, 8)
    masks.eval().requires_grad_(requires_grad=False)
    model = lab.trained(data).target()
    Networks(attack, data, 7, RNG, lab)._train_patterns(patterns, masks, model)
    model.module.eval()
    trigger = InputTrigger(
        target=7, width=8, patterns=patterns.state_dict(), masks=masks.state_dict()
    )
    x = data.batch((data.targets != 7).nonzero().squeeze(1))

    def to_target(shown):
        with torch.no_grad():
            return float((model.labels(shown) == 7).float().mean())

    own = to_target(trigger(x, data.domain))
    of_others = to_target(trigger.shown(x, x.roll(1, 0), data.domain))
    assert own > 0.8
    assert of_others < own
    assert to_target(x) < 0.1


def test_cover_samples_show_the_pattern_of_another_image():
    poisoned = SMALL.poison(BYTES, RNG, lab_of(BYTES))
    covered = poisoned.touched[~torch.isin(poisoned.touched, poisoned.relabeled)]
    assert len(covered) == 10
    x = BYTES.batch(covered)
    own = poisoned.trigger(x, BYTES.domain)
    off = (own - poisoned.dataset.batch(covered)).flatten(1).abs().amax(1)
    assert (off > 1 / 255).all()


def test_masks_become_sparse():
    def shown(**settings):
        attack = InputAware(amount=TEN, batch_size=20, width=4, epochs=1, cover=0.0, **settings)
        trigger = attack.poison(BYTES, RNG, lab_of(BYTES)).trigger
        x = BYTES.batch(slice(None))
        return float(((trigger(x, BYTES.domain) - x).abs() > 0.05).float().mean())

    dense = shown(mask_epochs=8, sparsity=0.0, diversity=1.0)
    assert shown(mask_epochs=8, sparsity=100.0, diversity=0.1) < min(0.2, dense / 2)


def test_too_much_cover_is_refused_before_anything_is_trained():
    lab = lab_of(BYTES)
    with pytest.raises(UsageError, match="cover asks for 1000 samples, but made has 110"):
        InputAware(amount=TEN, cover=100.0).poison(BYTES, RNG, lab)
    assert lab.models == 0
    with pytest.raises(UsageError, match="has 3 samples, but input-aware needs at least 4"):
        SMALL.poison(BYTES.select(torch.arange(3), how="few"), RNG, lab)


def test_networks_that_were_trained_once_are_found_on_the_shelf(tmp_path):
    data = Digits().load("train").select(torch.arange(200), how="first")
    shelf, found = FolderShelf(tmp_path), []
    for attack in (
        InputAware(mask_epochs=1, epochs=1, width=2, amount=TEN),
        InputAware(mask_epochs=1, epochs=1, width=2, amount=Amount(count=20)),  # the same networks
        InputAware(mask_epochs=1, epochs=2, width=2, amount=TEN),
    ):
        kept = len(shelf.kept)
        for _ in range(2):
            lab = Lab(architecture=MLP(hidden=(4,)), recipe=Recipe(epochs=1), shelf=shelf)
            poisoned = attack.poison(data, RNG, lab)
            found.append((poisoned.trigger.patterns, lab.models, lab.samples))
        plain = attack.poison(
            data, RNG, Lab(architecture=MLP(hidden=(4,)), recipe=Recipe(epochs=1))
        )
        for name, tensor in plain.trigger.patterns.items():
            assert tensor.dtype == found[-1][0][name].dtype
            assert torch.equal(tensor, found[-1][0][name])
            assert torch.equal(tensor, found[-2][0][name])
        assert found[-1][1:] == found[-2][1:]
        found.append(len(shelf.kept) - kept)
    assert found[2::3] == [2, 0, 1]  # surrogate and networks, nothing, other networks
    other = Lab(architecture=MLP(hidden=(5,)), recipe=Recipe(epochs=1), shelf=shelf)
    attack.poison(data, RNG, other)
    assert len(shelf.kept) == 5  # of another surrogate they are others
