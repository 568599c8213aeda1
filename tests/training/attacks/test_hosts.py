from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from poison_sets import SETS, lab_of, made

from casemate.training.attacks.hosts import margins, spread

IMAGES = SETS["gray bytes"]  # 60 samples, classes 0, 1, 2, 0, 1, 2, ...


@given(
    order=st.permutations(range(60)).map(lambda p: p[:40]),
    count=st.integers(min_value=1, max_value=40),
)
def test_classes_get_as_many_as_each_other_as_far_as_it_goes(order, count):
    taken = spread(torch.tensor(order), IMAGES, count).tolist()
    assert len(set(taken)) == len(taken) == count
    left = [p for p in order if p not in taken]
    for label in range(3):
        mine = [p for p in taken if p % 3 == label]
        # the best of its class
        assert mine == [p for p in order if p % 3 == label][: len(mine)]
        if any(p % 3 == label for p in left):
            assert len(mine) >= max(sum(p % 3 == k for p in taken) for k in range(3)) - 1


def test_a_second_one_of_a_group_comes_after_all_groups_had_one():
    data = replace(IMAGES, groups=torch.arange(60) // 6)  # ten groups, two of each class in each
    order = torch.arange(60)
    taken = spread(order, data, 12).tolist()
    assert {p // 6 for p in taken[:10]} == set(range(10))
    assert len(set(taken)) == 12
    assert len(spread(order, data, 99)) == 60


def test_margins_are_means_over_models_of_what_they_are_shown():
    lab = lab_of(IMAGES)
    models = [lab.trained(IMAGES, number=i).target() for i in range(2)]
    labels = torch.full_like(IMAGES.targets, 1)
    x = IMAGES.batch(slice(None))
    for show in (None, lambda z: z * 0.5):
        wanted = 0
        for model in models:
            scores = model.scores(x if show is None else show(x)).detach()
            rest = scores.clone()
            rest[:, 1] = float("-inf")
            wanted = wanted + (scores[:, 1] - rest.amax(1)) / 2
        torch.testing.assert_close(margins(models, IMAGES, labels, show), wanted)


@pytest.mark.parametrize("count", [1, 700, 1300])
def test_margins_of_many_samples_are_those_of_a_few(count):
    data = made((1, 8, 8), n=count)
    model = lab_of(IMAGES).trained(IMAGES).target()
    found = margins([model], data, data.targets)
    some = data.select(torch.arange(count - 1, count), how="last")
    torch.testing.assert_close(found[-1:], margins([model], some, some.targets))
