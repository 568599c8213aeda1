"""Grouped convolutions follow some of their channels to those that they reach, and no further."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from casemate.hardware.changes import Box, Rows, whole
from casemate.hardware.graph import Site
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.grouping import taps


@pytest.mark.parametrize(
    ("first", "count", "groups", "outputs", "inputs", "left"),
    [
        (2, 3, 1, (0, 6), (2, 5), 1),
        (2, 1, 12, (2, 3), (0, 1), 1),
        (4, 2, 3, (2, 4), (0, 2), 1),
        (3, 1, 2, (0, 3), (3, 4), 1),
        (4, 4, 3, (2, 4), (0, 4), 1),
        (4, 8, 3, (2, 6), (0, 4), 2),
        (0, 12, 3, (0, 6), (0, 4), 3),
    ],
)
def test_the_weights_of_some_channels(first, count, groups, outputs, inputs, left):
    found = taps(first, count, 12, 12 if groups == 12 else 6, groups)
    assert (found.outputs.start, found.outputs.stop) == outputs
    assert (found.inputs.start, found.inputs.stop) == inputs
    assert found.groups == left


def test_a_group_that_is_seen_in_part_has_no_weights_of_its_own():
    assert taps(3, 2, 12, 6, 3) is None  # the end of one and the beginning of the next
    assert taps(4, 6, 12, 6, 3) is None  # one and half of the next


@given(
    groups=st.sampled_from([1, 2, 3, 6]),
    count=st.integers(1, 6),
    firsts=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    rows=st.sampled_from([None, 2]),
    seed=st.integers(0, 10**6),
)
def test_a_change_is_followed_as_a_whole_convolution_has_it(groups, count, firsts, rows, seed):
    rng = torch.Generator().manual_seed(seed)
    values = {"w": torch.randint(-5, 6, (12, 6 // groups, 3, 3), generator=rng).float()}
    op = Conv2d(weight="w", padding=(1, 1), groups=groups)
    base = torch.randint(-9, 10, (3, 6, 7, 7), generator=rng).float()
    image = torch.randint(3, (len(firsts),), generator=rng)
    first = torch.tensor([min(f, 6 - count) for f in firsts])
    high = None if rows is None else torch.randint(7 - rows, (len(firsts),), generator=rng)
    size = (count, 7 if rows is None else rows, 7)
    new = torch.randint(-9, 10, (len(firsts), *size), generator=rng).float()
    box = Box((None if count == 6 else first, high, None), new)
    made = op.push(
        Site((base,), op.dense(values, base), values), Rows(torch.arange(len(firsts)), image), [box]
    )
    expected = op.dense(values, whole(box, base, image))
    assert torch.equal(whole(made, op.dense(values, base), image), expected)
    own = 6 // groups
    inside = bool((first // own == (first + count - 1) // own).all())
    aligned = count % own == 0 and bool((first % own == 0).all())
    followed = (inside or aligned) and not box.is_whole
    reached = (1 if inside else count // own) * 12 // groups
    if followed:
        assert made.size[0] == reached
        assert rows is None or made.size[1] == rows + 2
    else:
        assert made.is_whole
