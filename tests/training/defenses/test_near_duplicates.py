"""Near duplicates: copies under other labels, crowds, and tracks of two labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sanitizing import lab, made

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.attacks.badnets import Patch
from casemate.training.defenses import copies
from casemate.training.defenses.copies import (
    exact_copies,
    near_votes,
    spread_of,
    thumbnails,
    typical_gap,
)
from casemate.training.defenses.label_votes import contradicted
from casemate.training.defenses.near_duplicates import NearDuplicates
from casemate.training.defenses.provenance import astray

RNG = stream(0, "test")


def pictures(n=40, shape=(1, 16, 16), low=0.0, high=1.0, kind=np.float32):
    """Pictures that have nothing to do with each other, of two classes."""
    values = np.random.default_rng(0).random((n, *shape))
    inputs = (low + (high - low) * values).astype(np.float32)
    if kind is np.uint8:
        inputs = (values * 255).astype(np.uint8)
    return Dataset.from_arrays(
        name="pictures",
        inputs=inputs,
        labels=np.arange(n) % 2,
        classes=("even", "odd"),
        domain=Domain(shape=shape, low=low, high=high),
    )


def copied(data, sources, *, change=lambda x: x, labels=None):
    """Put changed copies of the first samples in the place of the last ones."""
    places = torch.arange(len(data) - len(sources), len(data))
    x = change(data.batch(torch.tensor(sources)))
    labels = torch.tensor(labels) if labels else 1 - data.targets[torch.tensor(sources)]
    return data.replaced(places, inputs=x, labels=labels, how="copied")


def suspects(defense, data):
    return defense.sanitize(data, RNG, lab()).suspects.tolist()


VARIANTS = {
    "floats": pictures(),
    "bytes": pictures(kind=np.uint8),
    "color": pictures(shape=(3, 12, 9)),
    "another domain": pictures(low=-2.0, high=3.0),
    "features": pictures(shape=(30,)),
}
every_variant = pytest.mark.parametrize("data", VARIANTS.values(), ids=VARIANTS)


@every_variant
@pytest.mark.parametrize("tolerance", [0, 0.1])
def test_the_same_input_under_two_labels(data, tolerance):
    assert suspects(NearDuplicates(tolerance=tolerance), data) == []
    twice = copied(data, [3, 8])
    assert suspects(NearDuplicates(tolerance=tolerance), twice) == [3, 8, 38, 39]
    alike = copied(data, [3, 8], labels=[1, 0])
    assert suspects(NearDuplicates(tolerance=tolerance), alike) == []


@every_variant
def test_a_little_noise_does_not_hide_a_copy(data):
    noisy = copied(data, [3], change=lambda x: x + 0.01 * data.domain.width)
    assert suspects(NearDuplicates(), noisy) == [3, 39]
    assert suspects(NearDuplicates(tolerance=0.005), noisy) == []
    assert suspects(NearDuplicates(tolerance=0), noisy) == []


@pytest.mark.parametrize("name", ["floats", "bytes", "color", "another domain"])
def test_a_patch_does_not_hide_a_copy(name):
    data = VARIANTS[name]
    patch = Patch(target=0, size=3)
    patched = copied(data, [3, 5], change=lambda x: patch(x, data.domain), labels=[0, 0])
    assert suspects(NearDuplicates(), patched) == [3, 5, 38, 39]
    assert suspects(NearDuplicates(spare_quarter=False), patched) == []


def test_the_majority_of_copies_stays():
    data = copied(pictures(), [3, 3, 3], labels=[1, 1, 0])
    assert suspects(NearDuplicates(), data) == [39]


@pytest.mark.parametrize(("crowd", "expected"), [(1, [3, 37, 38, 39]), (3, []), (None, [])])
def test_crowds_within_a_class(crowd, expected):
    data = copied(pictures(), [3, 3, 3], labels=[1, 1, 1])
    assert suspects(NearDuplicates(crowd=crowd), data) == expected


def test_a_frame_whose_label_is_not_its_tracks():
    groups = torch.arange(40) // 10 * 2 + torch.arange(40) % 2
    data = replace(pictures(), groups=groups)
    flipped = data.replaced(torch.tensor([7, 30]), labels=torch.tensor([0, 1]), how="flips")
    found = NearDuplicates().sanitize(flipped, RNG, lab())
    assert found.suspects.tolist() == [7, 30]
    assert found.notes == {"copies": 0, "crowds": 0, "groups": 2}
    torch.testing.assert_close(found.scores[[7, 30, 9, 0]], torch.tensor([0.8, 0.8, 0.2, 0.0]))
    assert suspects(NearDuplicates(groups=False), flipped) == []
    view = flipped.select(torch.arange(20, 40), how="half")
    assert suspects(NearDuplicates(), view) == [10]


def test_a_group_without_a_majority_is_astray_as_a_whole():
    data = replace(pictures(6), groups=torch.tensor([9, 9, 4, 4, 4, 7]))
    lost, share = astray(data)  # labels 0 1 | 0 1 0 | 1
    assert lost.tolist() == [True, True, False, True, False, False]
    torch.testing.assert_close(share, torch.tensor([1 / 2, 1 / 2, 1 / 3, 2 / 3, 1 / 3, 0.0]))
    assert astray(pictures()) is None


def test_no_model_is_trained():
    trainer = lab()
    NearDuplicates().sanitize(pictures(), RNG, trainer)
    assert trainer.models == 0


@pytest.mark.parametrize("tile", [1, 7, 512])
@pytest.mark.parametrize("spare", [False, True])
def test_votes_are_those_of_all_pairs(tile, spare, monkeypatch):
    monkeypatch.setattr(copies, "_TILE", tile)
    data = pictures(30, (1, 4, 4))
    small, labels = thumbnails(data, 4), data.targets
    own, other = near_votes(small, labels, 2, 1.0, spread_of(small), spare_quarter=spare)
    apart = (small[:, None] - small).square().sum(3)  # (n, n, 4)
    total = apart.sum(2) - (apart.amax(2) if spare else 0)
    spread = small.flatten(1).std(1, correction=0)
    near = (total / (12 if spare else 16)).sqrt() < 1.0 * torch.minimum(spread, spread[:, None])
    same = labels[:, None] == labels
    assert torch.equal(own, (near & same).sum(1))
    assert torch.equal(other[:, 0], (near & ~same).sum(1))
    assert torch.equal(other[:, 1], (near & ~same).sum(1))
    assert (own > 1).any()
    assert (other[:, 0] > 0).any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 4), (4, 1)),
        ((3, 5, 9), (4, 3)),
        ((1, 1, 1), (4, 1)),
        ((7,), (1, 7)),
    ],
)
def test_thumbnails_of_any_shape(shape, expected):
    found = thumbnails(pictures(3, shape, low=-1.0, high=3.0), 2)
    assert found.shape == (3, *expected)
    assert found.min() >= 0
    assert found.max() <= 1


def test_quarters_of_a_thumbnail_are_quarters_of_the_image():
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, :4, 4:] = 1  # the top right
    data = replace(pictures(1, (1, 8, 8)), inputs=torch.from_numpy(image))
    assert thumbnails(data, 4)[0].mean(1).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_dark_pictures_are_not_all_alike():
    dark = pictures().replaced(
        torch.arange(40), inputs=pictures().batch(slice(None)) * 0.01, how="darker"
    )
    assert suspects(NearDuplicates(), dark) == []
    assert suspects(NearDuplicates(), copied(dark, [3])) == [3, 39]
    black = dark.replaced(torch.arange(40), inputs=torch.zeros(40, 1, 16, 16), how="black")
    assert suspects(NearDuplicates(), black) == []


def test_exact_copies_have_one_number():
    data = copied(pictures(), [3, 3, 8])
    numbers = exact_copies(data, RNG)
    assert numbers[3] == numbers[37] == numbers[38]
    assert numbers[8] == numbers[39]
    assert len(numbers.unique()) == 37


def test_ties_and_shares():
    own, other = torch.tensor([1, 2, 1, 3]), torch.tensor([[0, 0], [1, 2], [1, 1], [4, 5]])
    suspicious, share = contradicted(own, other)
    assert suspicious.tolist() == [False, False, True, True]
    torch.testing.assert_close(share, torch.tensor([0.0, 0.5, 0.5, 0.625]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tolerance": 0.001}, "tolerance must be a number of at least 0.005"),
        ({"tolerance": -1.0}, "tolerance must be a number of at least 0.005"),
        ({"side": 7}, "side must be even, got 7"),
        ({"side": 0}, "side must be a whole number from 2 to 64"),
        ({"spare_quarter": 1}, "spare_quarter must be true or false"),
        ({"crowd": 0}, "crowd must be a whole number from 1"),
        ({"groups": "yes"}, "groups must be true or false"),
    ],
)
def test_parameters_that_make_no_sense(fields, words):
    with pytest.raises(UsageError, match=words):
        NearDuplicates(**fields)


def test_a_clean_set_of_any_kind_loses_nothing():
    assert suspects(NearDuplicates(), made((1, 8, 8))) == []


def measured(n=960, features=12, scale=1.0):
    """Independent samples of three overlapping classes, as a table of measurements has them."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    x = rng.normal(size=(3, features))[labels] + rng.normal(size=(n, features))
    x = (x - x.min(0)) / np.ptp(x, 0) * scale
    return Dataset.from_arrays(
        name="measured",
        inputs=x.astype(np.float32),
        labels=labels,
        classes=("a", "b", "c"),
        domain=Domain(shape=(features,)),
    )


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("features", [3, 12, 60])
def test_of_independent_features_nobody_is_a_copy(features, scale):
    data = measured(features=features, scale=scale)
    assert suspects(NearDuplicates(), data) == []
    # while copies under other labels, moved a little, are found with their originals
    source = list(range(20))
    labels = [(int(label) + 1) % 3 for label in data.targets[:20]]
    moved = copied(data, source, change=lambda x: x + 1e-4 * scale * x.sign(), labels=labels)
    assert suspects(NearDuplicates(), moved) == [*source, *range(940, 960)]


def test_the_usual_gap_is_the_median_of_those_that_are_not_zero():
    line = torch.tensor([0.0, 0.0, 0.0, 1.0, 3.0, 7.0], dtype=torch.float64)[:, None, None]
    # to the nearest that differs: 1, 1, 1, 1, 2, 4
    assert typical_gap(line, RNG).tolist() == [1.0] * 6
    assert typical_gap(line[:3], RNG).tolist() == [1.0] * 3  # none differs: exact copies only
    apart = torch.cat([line, line], dim=2)
    torch.testing.assert_close(typical_gap(apart, RNG), torch.ones(6, dtype=torch.float64))
