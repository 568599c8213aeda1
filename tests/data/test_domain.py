from __future__ import annotations

import pytest

from casemate.data.domain import Domain
from casemate.errors import UsageError


def test_sizes_follow_from_shape_and_bounds():
    image = Domain(shape=(3, 4, 5), low=-1.0, high=3.0)
    assert (image.width, image.size, image.is_image) == (4.0, 60, True)
    assert not Domain(shape=(7,)).is_image


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": ()},
        {"shape": (3, 0, 4)},
        {"shape": (2,), "low": 1.0},
        {"shape": (2,), "high": float("nan")},
        {"shape": (2,), "low": float("-inf")},
    ],
)
def test_a_domain_without_room_is_refused(bad):
    with pytest.raises(UsageError):
        Domain(**bad)
