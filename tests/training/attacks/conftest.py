"""Fixtures of the tests of poisoning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from poison_sets import SETS, made

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset


@pytest.fixture(params=SETS.values(), ids=SETS)
def images(request) -> Dataset:
    """A data set of images."""
    return request.param


@pytest.fixture
def features() -> Dataset:
    """A data set of features."""
    return made((5,), kind=np.float32)
