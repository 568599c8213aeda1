"""What every attack on training data promises, checked for each of them."""

from __future__ import annotations

from dataclasses import is_dataclass, replace

import pytest
import torch
from poison_sets import lab_of, made, poisoned_by
from worked import worked

from casemate.errors import UsageError
from casemate.random import stream
from casemate.registry import get, names
from casemate.threats import Knowledge, Stage, taxonomy
from casemate.training.attacks.adaptive_blend import AdaptiveBlend
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.attacks.blended import Blended
from casemate.training.attacks.feature_collision import FeatureCollision
from casemate.training.attacks.gradient_matching import GradientMatching
from casemate.training.attacks.input_aware import InputAware
from casemate.training.attacks.input_noise import InputNoise
from casemate.training.attacks.label_consistent import LabelConsistent
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.attacks.low_impact import LowImpact
from casemate.training.attacks.sig import SIG
from casemate.training.attacks.wanet import WaNet
from casemate.training.passes import DOUBLE, FORWARD
from casemate.training.recipe import Recipe

TEN = Amount(count=10)
ATTACKS = {
    "uniform flips": LabelFlips(amount=TEN),
    "pair flips": LabelFlips(kind="pair", amount=TEN),
    "class flips": LabelFlips(kind="class", source=0, target=1, amount=TEN),
    "gaussian": InputNoise(amount=TEN),
    "uniform": InputNoise(kind="uniform", intensity=0.3, amount=TEN),
    "salt and pepper": InputNoise(kind="salt-and-pepper", amount=TEN),
    "badnets": BadNets(amount=TEN),
    "blended": Blended(amount=TEN),
    "sig": SIG(amount=TEN, frequency=3.0),
    "wanet": WaNet(amount=TEN, cover=0.5),
    "adaptive blend": AdaptiveBlend(amount=TEN, cover=0.5),
    "label consistent": LabelConsistent(amount=TEN, steps=3, robust_steps=2),
    "label consistent l2": LabelConsistent(
        amount=TEN, norm="l2", epsilon=1.0, steps=3, robust=None, where="bottom right"
    ),
    "input aware": InputAware(
        amount=TEN, cover=0.5, mask_epochs=2, epochs=2, batch_size=20, width=4
    ),
    "gradient matching": GradientMatching(amount=TEN, steps=4, restarts=2),
    "two surrogates": GradientMatching(amount=TEN, steps=4, restarts=1, ensemble=2),
    "feature collision": FeatureCollision(amount=TEN, steps=10),
    "low impact": LowImpact(amount=TEN, strength=1.0, rounds=0, ensemble=1, steps=5),
    "low impact rehearsed": LowImpact(
        amount=TEN, strength=1.0, ensemble=1, steps=5, delta=1.0, delta_class=1.0, hosts="doubtful"
    ),
}
BACKDOORS = {k: v for k, v in ATTACKS.items() if v.threat.threat == "backdoor-data"}
AIMED = {k: v for k, v in ATTACKS.items() if isinstance(v, (GradientMatching, FeatureCollision))}
CLEAN_LABEL = (SIG, LabelConsistent)

every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
every_backdoor = pytest.mark.parametrize("attack", BACKDOORS.values(), ids=BACKDOORS)
every_aimed = pytest.mark.parametrize("attack", AIMED.values(), ids=AIMED)


def test_what_an_attack_evades_is_there_to_be_evaded():
    known = {*names("defense"), *names("monitor")}
    evading = {n: e for n in names("attack") if (e := getattr(get("attack", n), "evades", None))}
    assert {"adaptive-blend", "wanet", "input-aware"} <= set(evading)
    assert all(evades <= known for evades in evading.values())


def whole(data):
    return data.batch(slice(None))


@every_attack
def test_the_data_differ_exactly_where_the_truth_says(attack, images):
    poisoned = poisoned_by(attack, images, stream(1, "test"))
    moved = (whole(poisoned.dataset) != whole(images)).flatten(1).any(1)
    relabeled = poisoned.dataset.targets != images.targets
    touched = torch.zeros(len(images), dtype=torch.bool)
    touched[poisoned.touched] = True
    assert torch.equal(poisoned.touched, touched.nonzero().squeeze(1))
    assert len(poisoned.touched) == 10 * (1 + getattr(attack, "cover", 0))
    assert not (moved | relabeled)[~touched].any()
    assert (moved | relabeled)[touched].all()
    assert torch.equal(poisoned.relabeled, relabeled.nonzero().squeeze(1))


def test_noise_that_changes_nothing_touches_nothing():
    dark = made((1, 8, 8), n=40)
    dark = replace(dark, inputs=torch.zeros_like(dark.inputs))
    attack = InputNoise(kind="salt-and-pepper", intensity=0.01, amount=Amount(percent=100.0))
    poisoned = attack.poison(dark, stream(1, "test"))
    moved = (whole(poisoned.dataset) != whole(dark)).flatten(1).any(1)
    assert torch.equal(poisoned.touched, moved.nonzero().squeeze(1))
    assert 0 < len(poisoned.touched) < 40  # black pixels that are set to black stay


@every_attack
def test_the_clean_set_is_left_and_its_memory_shared(attack, images):
    before, labels = whole(images), images.targets.clone()
    poisoned = poisoned_by(attack, images, stream(1, "test"))
    assert poisoned.clean is images
    assert torch.equal(whole(images), before)
    assert torch.equal(images.targets, labels)
    assert poisoned.dataset.inputs is images.inputs


@every_attack
def test_the_same_stream_gives_the_same_set_and_another_one_another(attack, images):
    first, again, other = (
        poisoned_by(attack, images, stream(s, "test")).dataset for s in (1, 1, 2)
    )
    assert torch.equal(whole(first), whole(again))
    assert torch.equal(first.targets, again.targets)
    assert first.digest == again.digest
    assert first.digest not in {other.digest, images.digest}


@every_attack
def test_inputs_stay_in_the_domain_and_on_its_grid(attack, images):
    found = poisoned_by(attack, images, stream(1, "test")).dataset
    x, domain = whole(found), images.domain
    assert x.dtype == torch.float32
    assert (x >= domain.low).all()
    assert (x <= domain.high).all()
    if domain.step is not None:
        levels = (x - domain.low) / domain.step
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


@every_attack
def test_a_view_is_poisoned_as_a_set_of_its_own(attack, images):
    view = images.select(torch.arange(len(images) - 1, 5, -1), how="reversed")
    poisoned = poisoned_by(attack, view, stream(1, "test"))
    changed = (whole(poisoned.dataset) != whole(view)).flatten(1).any(1)
    changed |= poisoned.dataset.targets != view.targets
    assert torch.equal(changed.nonzero().squeeze(1), poisoned.touched)


@every_attack
def test_what_it_says_of_itself(attack):
    assert is_dataclass(attack)
    assert type(attack).__dataclass_params__.frozen
    assert attack.threat.stage is Stage.TRAINING
    assert attack.threat.threat in taxonomy()
    assert isinstance(attack.revision, int)


@every_attack
def test_more_than_there_is_is_refused(attack, images):
    greedy = replace(attack, amount=Amount(count=len(images) + 1))
    with pytest.raises(UsageError, match=r"amount\.count asks for .* samples.*; ask for at most"):
        poisoned_by(greedy, images, stream(1, "test"))


@every_backdoor
def test_a_backdoor_shows_its_trigger_and_the_targets_label(attack, images):
    poisoned = poisoned_by(attack, images, stream(1, "test"))
    assert poisoned.trigger.target == 0
    planted = poisoned.touched if isinstance(attack, CLEAN_LABEL) else poisoned.relabeled
    assert len(planted) == 10
    assert (poisoned.dataset.targets[planted] == 0).all()
    if isinstance(attack, (AdaptiveBlend, LabelConsistent)):  # pieces, and on harder images
        return
    shown = poisoned.trigger(images.batch(planted), images.domain)
    step = images.domain.step or 1e-6
    found = poisoned.dataset.batch(planted)
    torch.testing.assert_close(found, shown, rtol=0, atol=step / 2 + 1e-6)


@every_backdoor
def test_cover_samples_keep_their_labels(attack, images):
    poisoned = poisoned_by(attack, images, stream(1, "test"))
    covered = poisoned.touched[~torch.isin(poisoned.touched, poisoned.relabeled)]
    assert torch.equal(poisoned.dataset.targets[covered], images.targets[covered])
    if not isinstance(attack, CLEAN_LABEL):
        assert len(covered) == 10 * getattr(attack, "cover", 0)


@every_backdoor
def test_a_trigger_leaves_what_it_is_given(attack, images):
    trigger = poisoned_by(attack, images, stream(1, "test")).trigger
    x = whole(images)
    before = x.clone()
    shown = trigger(x, images.domain)
    assert torch.equal(x, before)
    assert shown.shape == x.shape
    assert (shown != x).any()


@every_backdoor
def test_features_have_no_place_for_a_trigger(attack, features):
    with pytest.raises(UsageError, match="needs images, but made holds features"):
        poisoned_by(attack, features, stream(1, "test"))


@every_backdoor
def test_the_target_by_name_and_one_that_is_none(attack, images):
    by_name = poisoned_by(replace(attack, target="class 1"), images, stream(1, "test"))
    assert by_name.trigger.target == 1
    with pytest.raises(UsageError, match="target is 'class 9', which is no class"):
        poisoned_by(replace(attack, target="class 9"), images, stream(1, "test"))


@every_aimed
def test_an_aim_at_one_input_leaves_every_label_true(attack, images):
    poisoned = poisoned_by(replace(attack, source=1), images, stream(1, "test"))
    assert poisoned.trigger is None
    assert len(poisoned.relabeled) == 0
    assert (images.targets[poisoned.touched] == 0).all()
    assert (poisoned.aim.target, poisoned.aim.source) == (0, 1)
    assert poisoned.aim.inputs.shape == (1,)
    assert poisoned.aim.inputs.dtype == torch.int64
    assert images.targets[poisoned.aim.inputs] == 1  # the lab knows these very images


@every_aimed
def test_what_cannot_be_aimed_at_is_refused(attack, images, features):
    rng = stream(1, "test")
    with pytest.raises(UsageError, match="the lab knows none; give known inputs"):
        attack.poison(images, rng, lab_of(images, known=None))
    with pytest.raises(UsageError, match="differ from made in domain or classes"):
        attack.poison(images, rng, lab_of(images, known=features))
    with pytest.raises(UsageError, match='target is the class "class 0", and so is source'):
        replace(attack, source="class 0").poison(images, rng, lab_of(images))
    only_zeros = images.select((images.targets == 0).nonzero().squeeze(1), how="zeros")
    with pytest.raises(UsageError, match="needs a known input of another class than 0"):
        attack.poison(images, rng, lab_of(images, known=only_zeros))
    wrong = images.replaced(
        torch.arange(len(images)), labels=(images.targets + 1) % len(images.classes), how="wrong"
    )
    steady = lab_of(
        images, recipe=Recipe(epochs=60, batch_size=16, learning_rate=0.05), known=wrong
    )
    with pytest.raises(UsageError, match=r"read none of .* known inputs right"):
        attack.poison(images, rng, steady)


@every_aimed
def test_more_images_than_the_class_has_are_refused_before_anything_is_trained(attack, images):
    with pytest.raises(UsageError, match=r"amount\.count"):
        replace(attack, amount=Amount(count=len(images))).check(images)


@every_aimed
def test_features_are_poisoned_as_well(attack, features):
    poisoned = poisoned_by(attack, features, stream(1, "test"))
    moved = whole(poisoned.dataset) != whole(features)
    assert moved.any(1).sum() == 10


@pytest.mark.parametrize(
    ("attack", "models"),
    [(v, v.trainings) for v in ATTACKS.values() if hasattr(v, "surrogate")],
    ids=[k for k, v in ATTACKS.items() if hasattr(v, "surrogate")],
)
def test_every_surrogate_is_counted_and_torch_is_left_alone(attack, models, images):
    assert attack.surrogate is True
    assert attack.threat.knowledge is Knowledge.GRAY_BOX
    lab = lab_of(images)
    before = torch.get_rng_state()
    attack.poison(images, stream(1, "test"), lab)
    assert torch.equal(torch.get_rng_state(), before)
    assert lab.models == models
    more = attack.epochs if isinstance(attack, InputAware) else 0
    rehearses = bool(getattr(attack, "rounds", 0))  # and judges that on a tenth of the data
    trained_on = len(images) - rehearses * len(images) // 10
    assert lab.samples == trained_on * (models * lab.recipe.epochs + more)


LABORIOUS = {k: v for k, v in ATTACKS.items() if hasattr(v, "passes")}


@pytest.mark.parametrize("attack", LABORIOUS.values(), ids=LABORIOUS)
def test_what_it_computes_besides_models_is_foreseen(attack, images, monkeypatch):
    lab = lab_of(images)
    with worked(monkeypatch, len(images.classes)) as counts:
        attack.poison(images, stream(1, "test"), lab)
    passes = attack.passes(images, lab)
    model = sum(p.samples for p in passes if p.network is None)
    if isinstance(attack, GradientMatching):
        model /= DOUBLE
    if isinstance(attack, LabelConsistent) and attack.robust:
        # in the surrogate's own training
        model -= lab.recipe.epochs * len(images) * attack.robust_steps
    # but for what comes once, before or after a few steps
    assert counts["classifier"] == pytest.approx(model, rel=0.3)
    own = [p for p in passes if p.network is not None]
    assert len(own) == 2 * isinstance(attack, InputAware)
    if own:
        masks, patterns = own
        # masks are looked at, but not learned, while patterns are
        assert counts["generator"] == pytest.approx(
            masks.samples + (2 - FORWARD) * patterns.samples, rel=0.2
        )
        drawn = masks.network(*masks.arguments)(images.batch(slice(0, 4)))
        assert drawn.shape == (4, 1, *images.domain.shape[1:])


def test_every_attack_that_trains_says_what_else_it_computes():
    assert {k for k, v in ATTACKS.items() if hasattr(v, "surrogate")} == set(LABORIOUS)


def test_two_attacks_in_a_row(images):
    first = BadNets(target=1, amount=TEN).poison(images, stream(1, "a"))
    second = InputNoise(amount=Amount(percent=100.0)).poison(first.dataset, stream(1, "b"))
    both = LabelFlips(amount=TEN).poison(second.dataset, stream(1, "c")).dataset
    assert both.inputs is images.inputs
    alone = InputNoise(amount=Amount(percent=100.0)).poison(images, stream(1, "b")).dataset
    untouched = torch.ones(len(images), dtype=torch.bool)
    untouched[first.touched] = False
    assert torch.equal(whole(both)[untouched], whole(alone)[untouched])
    assert not torch.equal(whole(both)[~untouched], whole(alone)[~untouched])
