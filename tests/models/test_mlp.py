from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.mlp import MLP


@settings(max_examples=20)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    hidden=st.lists(st.integers(1, 9), max_size=3),
    classes=st.integers(2, 50),
)
def test_any_input_gives_one_score_a_class(shape, hidden, classes):
    module = MLP(hidden=hidden).build(Domain(shape=shape), classes)
    assert module(torch.rand(3, *shape)).shape == (3, classes)
    assert [m.out_features for m in module if isinstance(m, nn.Linear)] == [*hidden, classes]


def test_without_hidden_layers_it_is_linear():
    module = MLP(hidden=()).build(Domain(shape=(7,)), 3)
    a, b = torch.rand(1, 7), torch.rand(1, 7)
    torch.testing.assert_close(module((a + b) / 2), (module(a) + module(b)) / 2)


@pytest.mark.parametrize("fields", [{"hidden": [0]}, {"hidden": 128}, {"dropout": -0.1}])
def test_settings_that_make_no_network_are_refused(fields):
    with pytest.raises(UsageError, match=rf"mlp\.{next(iter(fields))}"):
        MLP(**fields)
