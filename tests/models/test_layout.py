"""How inputs are laid out for a graph of known input shape."""

from __future__ import annotations

import numpy as np
import pytest

from casemate.errors import UsageError
from casemate.models.layout import arrangement

IMAGE = (3, 4, 5)


@pytest.mark.parametrize(
    ("graph", "axes", "batch"),
    [
        (["N", 3, 4, 5], (0, 1, 2, 3), None),
        ([None, 4, 5, 3], (0, 2, 3, 1), None),
        ([7, 3, 4, 5], (0, 1, 2, 3), 7),
        ([1, 4, 5, 3], (0, 2, 3, 1), 1),
        (["N", "c", "h", "w"], (0, 1, 2, 3), None),
        (["N", "h", "w", 3], (0, 2, 3, 1), None),
        ([-1, 3, "h", "w"], (0, 1, 2, 3), None),
    ],
)
def test_the_graph_tells_the_layout(graph, axes, batch):
    found = arrangement(graph, IMAGE, None, "m")
    x = np.random.default_rng(0).random((2, *IMAGE))
    np.testing.assert_array_equal(found(x), x.transpose(axes))
    assert found.batch == batch


def test_flattened_and_without_the_channel_axis():
    x = np.arange(40.0).reshape(2, 1, 4, 5)
    np.testing.assert_array_equal(arrangement(["N", 20], (1, 4, 5), None, "m")(x), x.reshape(2, 20))
    np.testing.assert_array_equal(arrangement(["N", 4, 5], (1, 4, 5), None, "m")(x), x[:, 0])
    np.testing.assert_array_equal(arrangement(["N", 5], (5,), None, "m")(x[0, 0]), x[0, 0])


def test_the_user_decides_where_both_fit():
    x = np.random.default_rng(0).random((2, 3, 3, 3))
    for layout, axes in ((None, (0, 1, 2, 3)), ("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1))):
        found = arrangement(["N", 3, 3, 3], (3, 3, 3), layout, "m")(x)
        np.testing.assert_array_equal(found, x.transpose(axes))


@pytest.mark.parametrize(
    ("graph", "layout"),
    [
        (["N", 3, 5, 4], None),
        (["N", 3, 4], None),
        ([3, 4, 5], None),
        (["N", 61], None),
        (["N", 3, 4, 5], "NHWC"),
        ([], None),
    ],
)
def test_what_does_not_fit_is_refused(graph, layout):
    with pytest.raises(UsageError, match=r"^m: the graph takes inputs of shape .* do not fit"):
        arrangement(graph, IMAGE, layout, "m")
