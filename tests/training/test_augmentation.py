from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.training.augmentation import Augmentation

DOMAIN = Domain(shape=(2, 9, 12))
SPREAD = {"rotation": 30.0, "scale": 0.3, "brightness": 0.4, "contrast": 0.6}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw_the_largest(monkeypatch):
    def ones(*size, generator):
        return torch.ones(size)

    monkeypatch.setattr(torch, "rand", ones)


def images(n=8, seed=1):
    return torch.rand(n, 2, 9, 12, generator=generator(seed))


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shift_moves_the_image_and_repeats_its_border(shift):
    x = images(64)
    moved = Augmentation(shift=shift)(x, DOMAIN, generator())
    padded = torch.nn.functional.pad(x, [shift] * 4, mode="replicate")
    seen = set()
    for i in range(len(x)):
        offsets = [
            (dy, dx)
            for dy in range(2 * shift + 1)
            for dx in range(2 * shift + 1)
            if torch.equal(moved[i], padded[i, :, dy : dy + 9, dx : dx + 12])
        ]
        assert len(offsets) == 1
        seen.add(offsets[0])
    # each sample draws its own, and both ends are reached on both axes
    assert {dy for dy, _ in seen} == {dx for _, dx in seen} == set(range(2 * shift + 1))


def test_a_turn_by_a_right_angle_is_that_turn(monkeypatch):
    square = torch.rand(1, 1, 8, 8, generator=generator())
    draw_the_largest(monkeypatch)
    turned = Augmentation(rotation=90)(square, Domain(shape=(1, 8, 8)), generator())
    torch.testing.assert_close(turned, torch.rot90(square, 1, (2, 3)), atol=1e-5, rtol=0)


def test_a_turn_keeps_shapes_in_images_that_are_not_square(monkeypatch):
    """Turned by 90 degrees, the pixel right of the center comes to lie one pixel above it."""
    x = torch.zeros(1, 1, 5, 11)
    x[0, 0, 2, 6] = 1
    draw_the_largest(monkeypatch)
    turned = Augmentation(rotation=90)(x, Domain(shape=(1, 5, 11)), generator())
    expected = torch.zeros_like(x)
    expected[0, 0, 1, 5] = 1
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_scaling_up_by_two_shows_the_middle(monkeypatch):
    x = torch.arange(8.0).div(8).view(1, 1, 1, 8).repeat(1, 1, 8, 1)
    draw_the_largest(monkeypatch)
    scaled = Augmentation(scale=1)(x, Domain(shape=(1, 8, 8)), generator())
    # a ramp of slope 1/8 a pixel around the center 3.5/8 becomes one of slope 1/16
    expected = 3.5 / 8 + (torch.arange(8.0) - 3.5) / 16
    torch.testing.assert_close(scaled[0, 0, 3], expected)


def test_contrast_and_brightness_keep_the_image_up_to_scale_and_offset():
    x = 0.4 + 0.2 * images(16)  # far enough from the bounds that nothing is clipped
    out = Augmentation(contrast=0.3, brightness=0.1)(x, DOMAIN, generator())
    a, b = x.flatten(1), out.flatten(1)
    offset = b.mean(1) - a.mean(1)
    gain = (b - b.mean(1, keepdim=True)).norm(dim=1) / (a - a.mean(1, keepdim=True)).norm(dim=1)
    fitted = (a - a.mean(1, keepdim=True)) * gain[:, None] + a.mean(1, keepdim=True)
    torch.testing.assert_close(fitted + offset[:, None], b)
    assert 0.7 <= gain.min() < 0.85
    assert 1.15 < gain.max() <= 1.3
    assert -0.1 <= offset.min() < -0.05
    assert 0.05 < offset.max() <= 0.1


def test_a_flip_mirrors_about_half_of_the_images():
    x = images(64)
    out = Augmentation(flip=True)(x, DOMAIN, generator())
    mirrored = torch.tensor([torch.equal(o, i.flip(2)) for o, i in zip(out, x, strict=True)])
    kept = torch.tensor([torch.equal(o, i) for o, i in zip(out, x, strict=True)])
    assert torch.equal(mirrored, ~kept)
    assert 16 <= int(mirrored.sum()) <= 48


@settings(max_examples=30)
@given(
    low=st.sampled_from([-2.0, 0.0, 1.0]),
    shift=st.integers(0, 12),
    seed=st.integers(0, 2**31),
    flip=st.booleans(),
)
def test_no_value_leaves_the_domain(low, shift, seed, flip):
    domain = Domain(shape=(2, 9, 12), low=low, high=low + 3)
    x = images(4, seed) * 3 + low
    kept = x.clone()
    out = Augmentation(shift=shift, flip=flip, **SPREAD)(x, domain, generator(seed))
    assert out.shape == x.shape
    assert bool(((out >= domain.low) & (out <= domain.high)).all())
    assert torch.equal(x, kept)
    assert not torch.equal(out, x)


@pytest.mark.parametrize("changes", [{"shift": 2}, {**SPREAD}, {"shift": 2, **SPREAD}])
def test_the_generator_decides(changes):
    x = images()
    augment = Augmentation(**changes)
    first = augment(x, DOMAIN, generator(3))
    assert torch.equal(first, augment(x, DOMAIN, generator(3)))
    assert not torch.equal(first, augment(x, DOMAIN, generator(4)))


def test_without_settings_nothing_is_drawn_or_changed():
    g = generator()
    before = g.get_state()
    x = images()
    assert Augmentation()(x, DOMAIN, g) is x
    assert torch.equal(g.get_state(), before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shift": -1}, r"recipe\.augmentation\.shift must be a whole number from 0"),
        ({"shift": 1.5}, r"recipe\.augmentation\.shift must be a whole number"),
        ({"rotation": 200}, r"recipe\.augmentation\.rotation must be a number of at least 0 and"),
        ({"contrast": -0.1}, r"recipe\.augmentation\.contrast must be a number of at least 0"),
        ({"flip": 1}, r"recipe\.augmentation\.flip must be true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Augmentation(**fields)
