"""Each attack against its own definition."""

from __future__ import annotations

import math

import pytest
import torch
from poison_sets import made

from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.attacks.adaptive_blend import AdaptiveBlend
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets, Patch
from casemate.training.attacks.blended import Blend, Blended
from casemate.training.attacks.input_noise import InputNoise
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.attacks.sig import SIG, Sinusoid
from casemate.training.attacks.wanet import WaNet, Warp

RNG = stream(3, "test")
MANY = made((1, 8, 8), n=3000, classes=5)
ALL = Amount(percent=100.0)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (Amount(count=7), 7),
        (Amount(percent=10.0), 300),
        (Amount(percent=0.01), 1),
        (Amount(count=7, per_class=True), 35),
        (Amount(percent=10.0, per_class=True), 300),
    ],
)
def test_an_amount_is_what_it_says(amount, expected):
    chosen = amount.choose(MANY, torch.ones(3000, dtype=torch.bool), RNG)
    assert len(chosen) == len(chosen.unique()) == expected
    assert torch.equal(chosen, chosen.sort().values)
    if amount.per_class:
        assert MANY.targets[chosen].bincount().tolist() == [expected // 5] * 5


def test_every_allowed_sample_is_as_likely():
    allowed = torch.zeros(3000, dtype=torch.bool)
    allowed[:20] = True
    counts = torch.zeros(3000)
    for seed in range(400):
        counts[Amount(count=5).choose(MANY, allowed, stream(seed, "draw"))] += 1
    assert counts[20:].sum() == 0
    # each of the 20 is drawn 100 times on average, with a deviation of sqrt(400 * 1/4 * 3/4)
    assert ((counts[:20] - 100).abs() < 5 * math.sqrt(75)).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Amount, "neither count nor percent"),
        (lambda: Amount(count=1, percent=1.0), r"both count \(1\) and percent \(1\)"),
        (lambda: Amount(count=0), r"count must be .*, got 0"),
        (lambda: Amount(percent=0.0), r"percent must be .*, got 0"),
        (lambda: Amount(percent=101.0), r"percent must be .*, got 101"),
        (lambda: Amount(percent=float("nan")), r"percent must be .*, got nan"),
        (lambda: LabelFlips(kind="class"), "need source and target"),
        (lambda: LabelFlips(source=1, target=2), "take no source or target"),
        (lambda: InputNoise(intensity=0.0), r"intensity must be .*, got 0"),
        (lambda: InputNoise(kind="salt-and-pepper", intensity=1.5), "above 0 and at most 1"),
        (lambda: Amount(count=1.5), r"count must be a whole number .*, got 1.5"),
        (lambda: Amount(percent=150.0), "at most 100, got 150$"),
        (lambda: Amount(percent="10"), r"percent must be a number .*, got '10'"),
        (lambda: LabelFlips(kind="pear"), r'kind cannot be "pear". Did you mean "pair"'),
        (lambda: InputNoise(kind="poisson"), 'kind cannot be "poisson"'),
        (lambda: InputNoise(intensity=math.inf), "intensity must be a number"),
        (lambda: InputNoise(classes=()), "classes is an empty list; name a class, or leave it"),
        (lambda: BadNets(size=2.5), r"size must be .*, got 2.5"),
        (lambda: BadNets(margin=-1), r"margin must be .*, got -1"),
        (lambda: BadNets(corner="middle"), 'corner cannot be "middle"'),
        (lambda: BadNets(pattern="dots"), 'pattern cannot be "dots"'),
        (lambda: WaNet(grid=4.5), r"grid must be .*, got 4.5"),
        (lambda: WaNet(cover=math.inf), r"cover must be .*, got inf"),
        (lambda: SIG(frequency="a"), r"frequency must be .*, got 'a'"),
        (lambda: Blended(pattern=-1), r"pattern must be .*, got -1"),
        (lambda: BadNets(size=0), r"size must be .*, got 0"),
        (lambda: Blended(alpha=1.5), r"alpha must be .*, got 1.5"),
        (lambda: Blended(test_alpha=0.0), r"test_alpha must be .*, got 0"),
        (lambda: SIG(delta=0.0), r"delta must be .*, got 0"),
        (lambda: SIG(frequency=-1.0), r"frequency must be .*, got -1"),
        (lambda: WaNet(grid=1), r"grid must be .*, got 1"),
        (lambda: WaNet(strength=0.0), r"strength must be .*, got 0"),
        (lambda: WaNet(cover=-1.0), r"cover must be .*, got -1"),
        (lambda: AdaptiveBlend(shown=0.0), r"shown must be .*, got 0"),
        (lambda: AdaptiveBlend(pieces=0), r"pieces must be .*, got 0"),
        (lambda: AdaptiveBlend(cover=float("nan")), r"cover must be .*, got nan"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_uniform_flips_reach_every_other_class_alike():
    found = LabelFlips(amount=ALL).poison(MANY, RNG).dataset.targets
    assert (found != MANY.targets).all()
    counts = torch.zeros(5, 5)
    counts.index_put_((MANY.targets, found), torch.ones(3000), accumulate=True)
    # 600 samples of each class over four others
    assert ((counts[~torch.eye(5, dtype=torch.bool)] - 150).abs() < 5 * math.sqrt(112.5)).all()


def test_pair_flips_go_to_the_next_class():
    found = LabelFlips(kind="pair", amount=ALL).poison(MANY, RNG).dataset.targets
    assert torch.equal(found, (MANY.targets + 1) % 5)


@pytest.mark.parametrize("kind", ["uniform", "pair"])
def test_where_there_is_one_class_no_label_can_be_flipped(kind):
    alone = made((1, 8, 8), classes=1)
    attack = LabelFlips(kind=kind)
    for act in (attack.check, lambda data: attack.poison(data, RNG)):
        with pytest.raises(UsageError, match="needs at least two classes, but made has 1; choose"):
            act(alone)


@pytest.mark.parametrize("classes", [("1", "1"), ("class 1", 1)])
def test_a_class_that_is_named_twice_is_refused(classes):
    with pytest.raises(UsageError, match=r'classes\[1\] is "class 1", which is named before; name'):
        InputNoise(classes=classes).check(MANY)


def test_class_flips_touch_one_class():
    attack = LabelFlips(
        kind="class", source="class 3", target=0, amount=Amount(percent=50.0, per_class=True)
    )
    poisoned = attack.poison(MANY, RNG)
    assert len(poisoned.touched) == 300
    assert (MANY.targets[poisoned.touched] == 3).all()
    assert (poisoned.dataset.targets[poisoned.touched] == 0).all()
    aim = poisoned.aim
    assert (aim.target, aim.source, aim.inputs) == (0, 3, None)
    assert LabelFlips().poison(MANY, RNG).aim is None
    with pytest.raises(UsageError, match='is the class "class 3", and so is source'):
        LabelFlips(kind="class", source=3, target="class 3").poison(MANY, RNG)


def test_noise_has_its_size():
    gray = made((1, 8, 8), n=400)
    middle = gray.replaced(torch.arange(400), inputs=torch.full((400, 1, 8, 8), 0.5), how="gray")

    def differences(**parameters):
        found = InputNoise(amount=ALL, **parameters).poison(middle, RNG).dataset
        return found.batch(slice(None)) - middle.batch(slice(None))

    normal = differences(kind="gaussian", intensity=0.1)
    assert normal.mean().abs() < 0.003
    assert normal.std() == pytest.approx(0.1, rel=0.03)
    uniform = differences(kind="uniform", intensity=0.2)
    assert uniform.abs().max() <= 0.2 + 1 / 255
    assert uniform.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.03)
    salt = differences(kind="salt-and-pepper", intensity=0.4)
    assert (salt > 0.4).float().mean() == pytest.approx(0.2, abs=0.015)
    assert (salt < -0.4).float().mean() == pytest.approx(0.2, abs=0.015)
    assert (salt.abs() < 0.01).float().mean() == pytest.approx(0.6, abs=0.02)


def test_salt_strikes_all_channels_of_a_pixel():
    color = made((3, 8, 8), n=20)
    poisoned = InputNoise(kind="salt-and-pepper", intensity=0.5, amount=ALL).poison(color, RNG)
    changed = poisoned.dataset.batch(slice(None)) != color.batch(slice(None))
    x = poisoned.dataset.batch(slice(None))
    hit = changed.any(1, keepdim=True).expand_as(x)
    assert ((x[hit] == 0) | (x[hit] == 1)).all()


def test_noise_keeps_to_its_classes():
    attack = InputNoise(classes=("class 1", 4), amount=Amount(count=100))
    touched = attack.poison(MANY, RNG).touched
    assert set(MANY.targets[touched].tolist()) == {1, 4}


@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
def test_a_patch_lies_in_its_corner_and_twice_is_once(corner):
    data = made((3, 9, 7), n=4)
    patch = Patch(target=0, size=2, margin=1, corner=corner)
    x = torch.full((4, 3, 9, 7), 0.5)
    once = patch(x, data.domain)
    assert torch.equal(patch(once, data.domain), once)
    rows = slice(1, 3) if corner.startswith("top") else slice(6, 8)
    columns = slice(1, 3) if corner.endswith("left") else slice(4, 6)
    expected = x.clone()
    expected[:, :, rows, columns] = 1.0
    assert torch.equal(once, expected)


def test_a_checkerboard_alternates():
    data = made((1, 5, 5), n=1, low=-1.0, high=1.0)
    square = Patch(target=0, size=3, margin=0, corner="top left", pattern="checkerboard")
    found = square(torch.zeros(1, 1, 5, 5), data.domain)[0, 0, :3, :3]
    assert found.tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]


def test_a_patch_larger_than_the_image_is_refused():
    with pytest.raises(UsageError, match=r"8 pixels with a margin of 1 does not fit into .* 8 x 8"):
        BadNets(size=8).poison(made((1, 8, 8)), RNG)
    BadNets(size=8, margin=0).poison(made((1, 8, 8)), RNG)


def test_a_blend_is_the_stated_mixture():
    domain = made((3, 6, 6), low=-1.0, high=3.0).domain
    blend = Blend(target=0, alpha=0.25)
    x = torch.rand(5, 3, 6, 6) * 4 - 1
    torch.testing.assert_close(blend(x, domain), 0.75 * x + 0.25 * blend.key(domain))
    assert -1 <= blend.key(domain).min() < -0.8
    assert 2.8 < blend.key(domain).max() <= 3
    assert not torch.equal(blend.key(domain), Blend(target=0, alpha=0.25, pattern=1).key(domain))


def test_test_time_may_show_more():
    data = made((1, 8, 8))
    assert Blended(test_alpha=0.5).poison(data, RNG).trigger.alpha == 0.5
    assert Blended().poison(data, RNG).trigger.alpha == 0.2
    assert SIG(test_delta=0.3, frequency=2.0).poison(data, RNG).trigger.delta == 0.3


def test_a_sinusoid_has_as_many_periods_as_its_frequency():
    domain = made((3, 4, 32)).domain
    x = torch.full((2, 3, 4, 32), 0.5)
    found = Sinusoid(target=0, delta=0.1)(x, domain)
    for j in range(32):
        expected = 0.5 + 0.1 * math.sin(2 * math.pi * j * 6 / 32)
        torch.testing.assert_close(found[..., j], torch.full((2, 3, 4), expected))


@pytest.mark.parametrize("width", [7, 8])
def test_a_sinusoid_that_pixels_cannot_show_is_refused(width):
    data = made((1, 4, width))
    half = width / 2
    seen = [Sinusoid(target=0, delta=0.4, frequency=f) for f in (half - 1, half + 1)]
    x = torch.full((1, 1, 4, width), 0.5)
    down, up = (s(x, data.domain) - 0.5 for s in seen)
    torch.testing.assert_close(up, -down, rtol=0, atol=1e-6)  # more periods look like fewer
    SIG(frequency=half - 0.1).check(data)
    for frequency in (half, half + 1):
        with pytest.raises(UsageError) as found:
            SIG(frequency=frequency).check(data)
        assert str(found.value) == (
            f"frequency is {frequency:g}, but images of made are {width} pixels wide, in which so "
            f"many periods look like fewer, or like none; give less than {half:g}"
        )


def test_sig_leaves_every_label_true():
    poisoned = SIG(target=2, frequency=3.0).poison(MANY, RNG)
    assert len(poisoned.touched) == 180
    assert (MANY.targets[poisoned.touched] == 2).all()
    assert len(poisoned.relabeled) == 0


def test_a_warp_of_no_strength_is_the_identity():
    domain = made((3, 9, 7)).domain
    x = torch.rand(4, 3, 9, 7)
    found = Warp(target=0, strength=0.0)(x, domain)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


def test_a_warp_moves_by_the_stated_size():
    """On a ramp the change of a pixel is the offset in pixels times the ramp's slope."""
    domain = made((1, 40, 40)).domain
    ramp = torch.linspace(0, 1, 40).expand(1, 1, 40, 40).clone()
    warp = Warp(target=0, grid=4, strength=1.0)
    moved = (warp(ramp, domain) - ramp)[0, 0, 2:-2, 2:-2] * 39  # in pixels
    offset = warp.field(domain)[0, :, :, 0] - torch.linspace(-1, 1, 40)
    expected = offset[2:-2, 2:-2] * 39 / 2  # an offset of 2 spans 39 pixels
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-3)
    # control points have mean size 1, that is 1/40 of half a side: about half a pixel
    assert 0.2 < moved.abs().mean() < 0.8


def test_a_warp_is_smooth_and_its_noise_is_not():
    domain = made((1, 32, 32)).domain
    offsets = Warp(target=0).field(domain)[0] - Warp(target=0, strength=0.0).field(domain)[0]
    bends = offsets.diff(dim=0).diff(dim=0).abs().mean() / offsets.abs().mean()
    assert bends < 6**0.5 / 10  # of independent offsets it would be the root of 6
    data = made((1, 32, 32), n=90)
    poisoned = WaNet(amount=Amount(count=10), cover=3.0).poison(data, RNG)
    covered = poisoned.touched[~torch.isin(poisoned.touched, poisoned.relabeled)]
    warp = poisoned.trigger(data.batch(covered), domain)
    assert not torch.allclose(warp, poisoned.dataset.batch(covered), atol=0.02)


def test_pieces_are_whole_and_as_many_as_stated():
    gray = made((1, 8, 12), n=40)
    black = gray.replaced(torch.arange(40), inputs=torch.zeros(40, 1, 8, 12), how="black")
    attack = AdaptiveBlend(amount=Amount(count=10), alpha=1.0, pieces=4, shown=0.5)
    poisoned = attack.poison(black, RNG)
    shown = poisoned.dataset.batch(poisoned.touched) > 0
    blocks = shown.view(-1, 4, 2, 4, 3).transpose(2, 3).reshape(len(shown), 16, 6)
    whole = blocks.float().mean(2)
    # random bytes are zero now and then, so a shown block may lack a pixel
    assert ((whole == 0) | (whole > 0.6)).all()
    assert ((whole > 0).sum(1) == 8).all()
    assert len((whole > 0).int().unique(dim=0)) > 10
    full = poisoned.trigger(black.batch(poisoned.touched), black.domain)
    assert ((full > 0).float().mean() > 0.95).all()


def test_more_pieces_than_pixels_are_refused():
    with pytest.raises(UsageError, match="pieces is 9, but images of 8 x 8"):
        AdaptiveBlend(pieces=9).poison(made((1, 8, 8)), RNG)


def test_more_cover_than_samples_is_refused():
    with pytest.raises(UsageError, match="cover asks for 1000 samples"):
        WaNet(amount=Amount(count=10), cover=100.0).poison(made((1, 8, 8)), RNG)
