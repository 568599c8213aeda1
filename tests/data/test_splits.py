from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.data.splits import (
    folds,
    holdout,
    most_held,
    of_class,
    stratified_sample,
    units,
)
from casemate.errors import UsageError

CLASSES = ("a", "b", "c", "d")


def make(labels, groups=None):
    labels = np.array(labels, np.int64)
    return Dataset.from_arrays(
        name="toy",
        inputs=np.zeros((len(labels), 1), np.uint8),
        labels=labels,
        classes=CLASSES,
        domain=Domain(shape=(1,)),
        groups=None if groups is None else np.array(groups, np.int64),
    )


def counts(data):
    return np.bincount(data.targets.numpy(), minlength=len(CLASSES))


labels = st.lists(st.integers(0, 3), min_size=2, max_size=60)
fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 2**32)


@given(labels, fractions, seeds)
def test_holdout_is_disjoint_complete_and_stratified(values, fraction, seed):
    data = make(values)
    try:
        rest, held = holdout(data, fraction, seed)
    except UsageError:
        # only where no class can give anything: rounded to none, or one sample a class
        assert round(len(values) * fraction) == 0 or counts(data).max() <= 1
        return
    both = np.concatenate([rest.rows.numpy(), held.rows.numpy()])
    assert sorted(both.tolist()) == list(range(len(values)))
    assert (np.abs(counts(held) - counts(data) * fraction) < 1 + 1e-9).all()
    present = counts(data) > 0
    assert (counts(rest)[present] >= 1).all()
    # where no class is so small that its last sample must be spared
    if counts(data)[present].min() >= 1 / (1 - fraction):
        assert len(held) == int(np.floor(len(values) * fraction + 0.5))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=4, max_size=30),
    fractions,
    seeds,
)
def test_holdout_keeps_every_track_on_one_side(tracks, fraction, seed):
    values = [label for label, frames in tracks for _ in range(frames)]
    groups = [100 * i for i, (_, frames) in enumerate(tracks) for _ in range(frames)]
    data = make(values, groups)
    per_class = np.bincount([label for label, _ in tracks], minlength=4)
    try:
        rest, held = holdout(data, fraction, seed)
    except UsageError:
        assert round(len(tracks) * fraction) == 0 or per_class.max() <= 1
        return
    assert not set(rest.group_ids.tolist()) & set(held.group_ids.tolist())
    assert len(rest) + len(held) == len(values)
    held_tracks = np.unique(held.group_ids.numpy()) // 100
    held_per_class = np.bincount([tracks[t][0] for t in held_tracks], minlength=4)
    assert (np.abs(held_per_class - per_class * fraction) < 1 + 1e-9).all()


def test_a_group_of_several_classes_counts_for_its_most_frequent_one():
    # groups 0..3 are mostly of class a, 4..7 mostly of class b, each with one stranger
    values = [0, 0, 1] * 4 + [1, 1, 0] * 4
    data = make(values, np.repeat(np.arange(8), 3))
    rest, held = holdout(data, 0.5, 3)
    held_groups = set(held.group_ids.tolist())
    assert len(held_groups & {0, 1, 2, 3}) == 2
    assert len(held_groups & {4, 5, 6, 7}) == 2
    assert not held_groups & set(rest.group_ids.tolist())


def test_holdout_of_a_view_speaks_of_the_same_rows():
    data = make([0, 1] * 10)
    odd = of_class(data, "b")
    rest, held = holdout(odd, 0.3, 0)
    assert len(held) == 3
    assert all(row % 2 == 1 for row in held.rows.tolist() + rest.rows.tolist())


def test_the_seed_decides_and_nothing_else():
    data = make([0, 1, 2, 3] * 25)
    first = holdout(data, 0.2, 7)[1]
    assert first.rows.tolist() == holdout(data, 0.2, 7)[1].rows.tolist()
    assert first.rows.tolist() != holdout(data, 0.2, 8)[1].rows.tolist()
    assert first.digest == holdout(data, 0.2, 7)[1].digest
    digests = {
        data.digest,
        first.digest,
        holdout(data, 0.2, 7)[0].digest,
        holdout(data, 0.2, 8)[1].digest,
        holdout(data, 0.25, 7)[1].digest,
        stratified_sample(data, 20, 7).digest,
    }
    assert len(digests) == 6


def test_every_sample_is_as_likely_as_any_other():
    # 400 draws of 4 from 10 of a class: each sample is binomial(400, 0.4), 160 +- 5 sigma of 9.8
    data = make([0] * 10 + [1] * 10)
    hits = np.zeros(20)
    for seed in range(400):
        hits[holdout(data, 0.4, seed)[1].rows.numpy()] += 1
    assert np.abs(hits - 160).max() < 49


@given(labels, st.integers(1, 70), seeds)
def test_a_sample_is_stratified_and_of_the_size_asked_for(values, count, seed):
    data = make(values)
    sample = stratified_sample(data, count, seed)
    assert len(sample) == min(count, len(values))
    assert len(set(sample.rows.tolist())) == len(sample)
    share = min(1.0, count / len(values))
    assert (np.abs(counts(sample) - counts(data) * share) < 1 + 1e-9).all()


def test_a_sample_of_all_is_the_data_set_itself():
    data = make([0, 1, 2])
    assert stratified_sample(data, 3, 0) is data


def test_of_class_takes_all_of_it_and_nothing_else():
    data = make([0, 1, 0, 2])
    assert of_class(data, "a").rows.tolist() == [0, 2]
    assert of_class(data, 2).rows.tolist() == [3]
    with pytest.raises(UsageError, match=r'is "d" \(label 3\), of which .* no sample'):
        of_class(data, "d")
    with pytest.raises(UsageError, match="is 'e', which is no class"):
        of_class(data, "e")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(UsageError, match="between 0 and 1"):
        holdout(make([0, 1]), fraction, 0)


def test_sides_that_would_be_empty_and_empty_samples_are_refused():
    with pytest.raises(UsageError, match="one side empty"):
        holdout(make([0, 1, 2, 3]), 0.5, 0)  # of each class one must stay
    with pytest.raises(UsageError, match="of 2 groups leaves"):
        holdout(make([0, 0, 1, 1], [0, 0, 1, 1]), 0.5, 0)
    with pytest.raises(UsageError, match="at least 1"):
        stratified_sample(make([0, 1]), 0, 0)


@given(labels, st.integers(2, 6), seeds)
def test_folds_share_each_class_and_all(values, count, seed):
    data = make(values)
    if len(values) < count:
        with pytest.raises(UsageError, match=f"folds is {count}, but"):
            folds(data, count, seed)
        return
    fold = folds(data, count, seed).numpy()
    assert fold.shape == (len(values),)
    assert np.ptp(np.bincount(fold, minlength=count)) <= 1
    for label in range(len(CLASSES)):
        assert np.ptp(np.bincount(fold[np.array(values) == label], minlength=count)) <= 1


def test_folds_keep_groups_together_and_depend_on_the_seed():
    data = make([0] * 30 + [1] * 30, groups=[i // 5 for i in range(60)])
    fold = folds(data, 3, 0).numpy()
    assert all(len(set(fold[5 * g : 5 * g + 5].tolist())) == 1 for g in range(12))
    assert np.bincount(fold[:30]).tolist() == np.bincount(fold[30:]).tolist() == [10, 10, 10]
    assert (fold == folds(data, 3, 0).numpy()).all()
    assert (fold != folds(data, 3, 1).numpy()).any()
    with pytest.raises(UsageError, match="at least 2 folds, got 1"):
        folds(data, 1, 0)


tracks = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(0, 3)), min_size=4, max_size=30
)


@given(tracks, fractions, seeds, st.booleans())
def test_no_more_is_held_out_than_can_be(tracks, fraction, seed, grouped):
    # each track has frames of its class, and one more of any class
    values = [v for label, frames, other in tracks for v in [*[label] * frames, other]]
    groups = [i for i, (_, frames, _) in enumerate(tracks) for _ in range(frames + 1)]
    data = make(values, groups if grouped else None)
    most, each = most_held(data, fraction)
    try:
        held = holdout(data, fraction, seed)[1]
    except UsageError:
        return
    assert len(held) <= most
    assert (counts(held) <= each).all()


@given(labels, fractions, seeds)
def test_of_samples_that_stand_alone_the_most_is_what_is_held_out(values, fraction, seed):
    data = make(values)
    most, each = most_held(data, fraction)
    if most and counts(data)[counts(data) > 0].min() >= 1 / (1 - fraction):
        assert len(holdout(data, fraction, seed)[1]) == most
    assert (np.abs(each - counts(data) * fraction) < 1 + 1e-9).all()


def test_the_most_of_groups_are_the_largest():
    groups = np.repeat(np.arange(6), [1, 2, 7, 3, 4, 9])
    data = make(np.repeat([0, 0, 0, 1, 1, 1], [1, 2, 7, 3, 4, 9]), groups)
    most, each = most_held(data, 1 / 3)
    assert (most, each.tolist()) == (16, [7, 9, 0, 0])


def test_units_are_samples_or_groups():
    assert units(make([0, 1, 1])) == 3
    assert units(make([0, 1, 1], [7, 4, 4])) == 2
