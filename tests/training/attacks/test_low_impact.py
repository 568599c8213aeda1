from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from poison_sets import SETS, lab_of, made
from scipy.stats import beta, norm
from shelves import FolderShelf

from casemate.data.domain import Domain
from casemate.data.similarity import ssim
from casemate.errors import UsageError
from casemate.random import stream
from casemate.stats import tango
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.impact import Impact
from casemate.training.attacks.low_impact import LowImpact
from casemate.training.attacks.perturbation import Perturbation
from casemate.training.attacks.workshop import checkerboard

IMAGES = SETS["gray bytes"]
QUICK = LowImpact(amount=Amount(count=6), epsilon=0.2, rounds=0, ensemble=1, steps=40)
LOOSE = replace(QUICK, rounds=1, delta=1.0, delta_class=1.0, steps=5)


def whole(data):
    return data.batch(slice(None))


def poison(attack, data=IMAGES, lab=None, seed=1):
    return attack.poison(data, stream(seed, "test"), lab or lab_of(data))


def test_the_trigger_is_bounded_and_poison_shows_a_part_of_it():
    poisoned = poison(replace(QUICK, strength=0.5))
    pattern = poisoned.trigger.pattern
    assert float(pattern.abs().max()) <= 0.2 + 1e-6
    clean = IMAGES.batch(poisoned.touched)
    wanted = (clean + 0.5 * pattern).clamp(0, 1)
    found = poisoned.dataset.batch(poisoned.touched)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.5 / 255 + 1e-6)
    shown = poisoned.trigger(clean, IMAGES.domain)
    torch.testing.assert_close(shown, (clean + pattern).clamp(0, 1))


def test_the_bound_is_a_share_of_the_domains_width():
    wide = SETS["floats"]  # 5 wide
    pattern = poison(QUICK, wide).trigger.pattern
    assert 0.5 < float(pattern.abs().max()) <= 1.0 + 1e-6


def test_the_search_leads_surrogates_to_the_target():
    lab = lab_of(IMAGES)
    target = lab.trained(IMAGES).target()
    trigger = poison(QUICK, lab=lab).trigger
    others = IMAGES.batch((IMAGES.targets != 0).nonzero().squeeze(1))
    with torch.no_grad():
        before = target.probabilities(target.scores(others))[:, 0].mean()
        after = target.probabilities(target.scores(trigger(others, IMAGES.domain)))[:, 0].mean()
        away = replace(trigger, strength=-1.0)
        back = target.probabilities(target.scores(away(others, IMAGES.domain)))[:, 0].mean()
    assert after > before + 0.1
    assert back < after


@pytest.mark.parametrize(("hosts", "largest"), [("confident", True), ("doubtful", False)])
def test_hosts_are_chosen_by_their_margin(hosts, largest):
    lab = lab_of(IMAGES)
    target = lab.trained(IMAGES).target()
    with torch.no_grad():
        scores = target.scores(whole(IMAGES))
    own = scores.gather(1, IMAGES.targets[:, None]).squeeze(1)
    rest = scores.scatter(1, IMAGES.targets[:, None], float("-inf")).amax(1)
    others = (IMAGES.targets != 0).nonzero().squeeze(1)
    order = (own - rest)[others].argsort(descending=largest)
    chosen = poison(replace(QUICK, hosts=hosts), lab=lab).touched
    assert torch.equal(chosen, others[order[:6]].sort().values)


def test_resistant_hosts_are_those_that_the_trigger_moves_least(tmp_path):
    shelf = FolderShelf(tmp_path)
    lab = lab_of(IMAGES, shelf=shelf)
    attack = replace(QUICK, hosts="resistant", strength=0.5, amount=Amount(count=4))
    poisoned = poison(attack, lab=lab)
    model = shelf.models()[0].target()
    x = IMAGES.batch(slice(None))
    shown = (x + 0.5 * poisoned.trigger.pattern).clamp(0, 1)
    scores = model.scores(shown)
    margin = scores[:, 0] - scores[:, 1:].amax(1)
    # two of each of the two other classes
    for label in (1, 2):
        mine = (IMAGES.targets == label).nonzero().squeeze(1)
        wanted = mine[margin[mine].argsort()[:2]].sort().values
        chosen = poisoned.touched[IMAGES.targets[poisoned.touched] == label]
        assert torch.equal(chosen, wanted)


def test_borderline_hosts_are_those_that_poisoned_surrogates_can_hardly_decide_on(tmp_path):
    shelf = FolderShelf(tmp_path)
    attack = replace(
        LOOSE,
        start="checkerboard",
        hosts="borderline",
        strength=0.5,
        steps=0,
        amount=Amount(count=4),
    )
    poisoned = poison(attack, lab=lab_of(IMAGES, shelf=shelf))
    pattern = poisoned.trigger.pattern
    torch.testing.assert_close(pattern, checkerboard(IMAGES.domain) * 0.2)
    shown = (whole(IMAGES) + 0.5 * pattern).clamp(0, 1)
    wanted = []
    for model in shelf.models():
        scores = model.target().scores(shown)
        margin = (scores[:, 0] - scores[:, 1:].amax(1)).abs()
        mine = [(IMAGES.targets == label).nonzero().squeeze(1) for label in (1, 2)]
        wanted.append(torch.cat([m[margin[m].argsort()[:2]] for m in mine]).sort().values)
    # of the two surrogates, one saw poison
    assert sum(torch.equal(poisoned.touched, w) for w in wanted) == 1


def test_forgotten_hosts_are_those_that_a_surrogates_training_forgets_most_often():
    lab = lab_of(IMAGES)
    events = lab_of(IMAGES).forgetting(IMAGES)
    attack = replace(QUICK, start="checkerboard", steps=0, hosts="forgotten")
    attack = replace(attack, amount=Amount(count=4))
    chosen = poison(attack, lab=lab).touched
    assert lab.models == attack.trainings == 1
    # two of each of the two other classes, none of which another sample was forgotten more than
    for label in (1, 2):
        mine = (IMAGES.targets == label).nonzero().squeeze(1)
        most = events[mine].sort(descending=True).values[:2].sort().values
        taken = chosen[IMAGES.targets[chosen] == label]
        assert torch.equal(events[taken].sort().values, most)
        assert most.max() > events[mine].min()


def test_rehearsals_for_forgotten_hosts_count_their_trainings():
    attack = replace(LOOSE, hosts="forgotten", start="checkerboard", steps=0, ensemble=2)
    lab = lab_of(IMAGES)
    poison(attack, lab=lab)
    assert lab.models == attack.trainings == 8


def test_borderline_hosts_need_a_rehearsal():
    with pytest.raises(UsageError, match="found in a rehearsal"):
        replace(QUICK, hosts="borderline")


def test_hosts_are_spread_over_the_classes():
    chosen = poison(replace(QUICK, hosts="spread")).touched
    assert torch.bincount(IMAGES.targets[chosen], minlength=3).tolist() == [0, 3, 3]


def test_neighbors_on_a_checkerboard_have_opposite_signs():
    board = checkerboard(Domain(shape=(3, 4, 5), low=0, high=1))
    assert board.shape == (1, 3, 4, 5)
    assert set(board.flatten().tolist()) == {-1.0, 1.0}
    for axis in (1, 2, 3):
        size = board.shape[axis]
        assert torch.equal(board.narrow(axis, 0, size - 1), -board.narrow(axis, 1, size - 1))


def test_a_checkerboard_needs_no_surrogate(tmp_path):
    shelf = FolderShelf(tmp_path)
    lab = lab_of(IMAGES, shelf=shelf)
    attack = replace(QUICK, start="checkerboard", strength=0.5, hosts="spread")
    poisoned = poison(attack, lab=lab)
    assert (lab.models, attack.trainings, shelf.kept) == (0, 0, [])
    pattern = poisoned.trigger.pattern
    torch.testing.assert_close(pattern.abs(), torch.full_like(pattern, 0.2))
    assert torch.equal(pattern[..., 1:, :], -pattern[..., :-1, :])
    assert torch.equal(pattern[..., 1:], -pattern[..., :-1])
    clean = IMAGES.batch(poisoned.touched)
    found = poisoned.dataset.batch(poisoned.touched)
    wanted = (clean + 0.5 * pattern).clamp(0, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.5 / 255 + 1e-6)


def test_a_checkerboard_is_rehearsed_as_a_found_trigger_is():
    lab = lab_of(IMAGES)
    attack = replace(LOOSE, start="checkerboard", ensemble=1, rounds=2)
    pattern = poison(attack, lab=lab).trigger.pattern
    assert lab.models == attack.trainings == 3
    board = checkerboard(IMAGES.domain) * 0.2
    assert float(pattern.abs().max()) <= 0.2 + 1e-6
    assert not torch.equal(pattern, board)


def test_the_trigger_that_is_planted_is_the_one_that_was_rehearsed(tmp_path):
    """With a single rehearsal the trigger is that of no rehearsal: nothing is fitted after it."""
    attack = replace(LOOSE, start="checkerboard")
    once = poison(attack).trigger.pattern
    torch.testing.assert_close(once, checkerboard(IMAGES.domain) * 0.2)
    shelf = FolderShelf(tmp_path)
    twice = poison(replace(attack, rounds=2), lab=lab_of(IMAGES, shelf=shelf))
    # the last surrogates were trained on images with the very trigger that comes out
    last = max(shelf.models(), key=lambda m: m.seed)
    shown = replace(twice.trigger, strength=attack.strength)
    assert last.seed == lab_of(IMAGES).seed_of(2)
    hosts = IMAGES.batch(twice.touched)
    found = twice.dataset.batch(twice.touched)
    torch.testing.assert_close(found, shown(hosts, IMAGES.domain), rtol=0, atol=0.5 / 255 + 1e-6)


def test_random_signs_are_the_control_of_the_search(tmp_path):
    shelf = FolderShelf(tmp_path)
    attack = replace(QUICK, start="random", steps=0, strength=1.0)
    poisoned = poison(attack, lab=lab_of(IMAGES, shelf=shelf))
    pattern = poisoned.trigger.pattern
    torch.testing.assert_close(pattern.abs(), torch.full_like(pattern, 0.2))
    assert 0.3 < float((pattern > 0).float().mean()) < 0.7
    assert shelf.kept == []
    assert torch.equal(pattern, poison(attack).trigger.pattern)
    assert not torch.equal(pattern, poison(attack, seed=2).trigger.pattern)


def test_a_rehearsal_trains_on_what_it_does_not_judge_on(tmp_path):
    shelf = FolderShelf(tmp_path)
    lab = lab_of(IMAGES, shelf=shelf)
    attack = replace(LOOSE, ensemble=2)
    poison(attack, lab=lab)
    assert lab.models == attack.trainings == 4
    assert len({m.seed for m in shelf.models()}) == 4
    # 54 of 60 samples, three epochs
    assert lab.samples == 4 * 54 * 3


def test_attacks_that_differ_in_budget_share_surrogates_and_search(tmp_path):
    shelf = FolderShelf(tmp_path)
    first = poison(QUICK, lab=lab_of(IMAGES, shelf=shelf))
    kept = len(shelf.kept)
    other = replace(QUICK, amount=Amount(count=3), strength=0.5)
    second = poison(other, lab=lab_of(IMAGES, shelf=shelf))
    assert len(shelf.kept) == kept
    assert torch.equal(first.trigger.pattern, second.trigger.pattern)
    poison(replace(QUICK, epsilon=0.11), lab=lab_of(IMAGES, shelf=shelf))
    assert len(shelf.kept) == kept + 1


def test_the_budget_is_halved_until_the_bounds_are_kept(monkeypatch):
    judged = iter([0.9, 0.9, 0.001])
    monkeypatch.setattr(
        Impact, "of", classmethod(lambda cls, *_: cls(drop=next(judged), worst=0.0))
    )
    poisoned = poison(replace(LOOSE, delta=0.5))
    assert len(poisoned.touched) == 1  # 6, 3, 1


def test_bounds_that_one_sample_breaks_are_refused(monkeypatch):
    monkeypatch.setattr(Impact, "of", classmethod(lambda cls, *_: cls(drop=0.9, worst=0.9)))
    with pytest.raises(UsageError, match="even with one poisoned sample accuracy may drop by 90"):
        poison(replace(LOOSE, delta=0.5))


def test_the_trigger_is_weakened_until_images_are_similar_enough():
    big = made((1, 16, 16))
    bare = poison(replace(QUICK, epsilon=0.6), big).trigger.pattern
    trigger = poison(replace(QUICK, epsilon=0.6, ssim=0.97), big).trigger
    x = whole(big)[big.targets != 0]  # all of those that can carry the trigger
    found = float(ssim(trigger(x, big.domain), x, big.domain).mean())
    assert 0.97 <= found < 0.975
    ratio = trigger.pattern / bare
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))


def test_another_architecture_can_be_used_for_the_surrogates(tmp_path):
    shelf = FolderShelf(tmp_path)
    poison(replace(QUICK, architecture="lenet"), lab=lab_of(IMAGES, shelf=shelf))
    assert [type(m.architecture).__name__ for m in shelf.models()] == ["LeNet"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epsilon": 0.0}, r"epsilon must be .*, got 0"),
        ({"strength": 1.5}, "strength must be .*, got 1.5"),
        ({"delta": 0.0}, r"delta must be .*, got 0"),
        ({"ssim": 1.5}, "ssim"),
        ({"hosts": "best"}, "hosts"),
        ({"start": "zero"}, "start"),
        ({"architecture": "alexnet"}, "architecture"),
        ({"rounds": -1}, "rounds"),
        ({"ensemble": 0}, "ensemble"),
        ({"steps": 0}, "steps"),
    ],
)
def test_parameters_out_of_range_are_refused(change, sentence):
    with pytest.raises(UsageError, match=sentence):
        replace(QUICK, **change)


class Fixed:
    """A "model" that is right on some samples."""

    def __init__(self, right):
        self.right = torch.as_tensor(right)

    def target(self, device):
        return self

    def labels(self, x):
        position = x.flatten().long()
        return torch.where(self.right[position], 0, 1) + 2 * (position % 2)


def numbered(n):
    """Sample i has the value i, and is of class 0 or 2 by turns."""
    data = made((1,), n=n, classes=4, kind=np.float32, low=0.0, high=float(n))
    inputs = torch.arange(n).float().view(n, 1)
    labels = 2 * (torch.arange(n) % 2)
    return replace(data, inputs=inputs, labels=labels)


def test_the_limits_are_tangos_over_what_was_lost_and_gained_on_average():
    n, rng = 40, np.random.default_rng(0)
    clean = [Fixed(np.ones(n, bool)), Fixed(rng.random(n) < 0.95)]
    models = [Fixed(rng.random(n) < 0.8), Fixed(rng.random(n) < 0.9)]
    impact = Impact.of(models, clean, numbered(n), "cpu")
    lost = (torch.stack([c.right for c in clean]).float().mean(0)).numpy()
    lost = lost - torch.stack([m.right for m in models]).float().mean(0).numpy()
    for limit, values, level in (
        (impact.drop, [lost], 0.05),
        (impact.worst, [lost[::2], lost[1::2]], 0.025),
    ):
        ends = [
            max(
                tango(v.clip(0).sum(), (-v).clip(0).sum(), len(v), z=norm.ppf(1 - level))[1],
                beta.ppf(1 - level, v.sum() + 1, len(v) - v.sum()),  # Clopper and Pearson
            )
            for v in values
        ]
        assert limit == pytest.approx(max(ends), rel=1e-6)


def of(lost, gained, n):
    """The limit of the drop where so many of n samples were lost and gained."""
    before, after = np.ones(n, bool), np.ones(n, bool)
    after[:lost] = False
    before[n - gained :] = False
    return Impact.of([Fixed(after)], [Fixed(before)], numbered(n), "cpu").drop


@pytest.mark.parametrize(
    ("n", "lost", "gained", "delta"),
    [(598, 0.005, 0.0, 0.005), (2000, 0.006, 0.001, 0.005), (2000, 0.015, 0.01, 0.005)],
)
def test_a_bound_that_is_broken_passes_one_time_in_twenty(n, lost, gained, delta):
    rng = np.random.default_rng(0)
    limits = {}
    drawn = rng.multinomial(n, [lost, gained, 1 - lost - gained], 4000)[:, :2]
    for pair in map(tuple, np.unique(drawn, axis=0).tolist()):
        limits[pair] = of(*pair, n)
    passed = np.mean([limits[tuple(pair)] <= delta for pair in drawn.tolist()])
    assert passed <= 0.065


def test_who_loses_more_passes_no_easier():
    limits = [of(k, 0, 100) for k in range(6)]
    assert limits == sorted(limits)
    assert of(1, 1, 60) > of(0, 0, 60) >= of(0, 2, 60)


def test_within_needs_both_bounds():
    impact = Impact(drop=0.004, worst=0.03)
    assert impact.within(0.004, 0.03)
    assert not impact.within(0.003, 0.03)
    assert not impact.within(0.004, 0.02)


def test_one_sample_of_a_class_leaves_its_drop_open():
    impact = Impact.of([Fixed([True, True, True])], [Fixed([True] * 3)], numbered(3), "cpu")
    assert impact.worst == pytest.approx(1 - 0.025)


def test_where_no_sample_was_lost_the_bound_is_that_of_no_event():
    """Clopper and Pearson: of n samples without a loss, 1 - alpha^(1/n)."""
    right = [Fixed([True] * 40)]
    impact = Impact.of(right, right, numbered(40), "cpu")
    assert impact.drop == pytest.approx(1 - 0.05 ** (1 / 40), rel=1e-4)
    assert impact.worst == pytest.approx(1 - 0.025 ** (1 / 20), rel=1e-4)
    # a class that the attacker knows of and has no sample of here
    assert Impact.of(right, right, numbered(40), "cpu", [0, 1, 2]).worst == 1.0


def test_a_trigger_is_a_plain_value():
    trigger = Perturbation(target=0, pattern=torch.full((1, 1, 2, 2), 0.25))
    x = torch.tensor([[[[0.0, 0.9], [0.5, 1.0]]]])
    domain = made((1, 2, 2), kind=np.float32).domain
    wanted = torch.tensor([[[[0.25, 1.0], [0.75, 1.0]]]])
    torch.testing.assert_close(trigger(x, domain), wanted)
