from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.lenet import LeNet


@settings(max_examples=20)
@given(
    channels=st.integers(1, 4),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    classes=st.integers(2, 50),
)
def test_any_image_gives_one_score_a_class(channels, height, width, classes):
    shape = (channels, height, width)
    module = LeNet().build(Domain(shape=shape), classes)
    assert module(torch.rand(3, *shape)).shape == (3, classes)


@pytest.mark.parametrize(("height", "width"), [(21, 27), (27, 27), (9, 15), (33, 22)])
def test_of_an_odd_size_the_last_row_and_column_are_seen_as_the_first(height, width):
    torch.manual_seed(0)
    module = LeNet().build(Domain(shape=(1, height, width)), 5)
    x = torch.rand(200, 1, height, width, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).logsumexp(1).sum(), x)
    seen = slope.abs().mean((0, 1))
    for edges in (seen[:3].mean(), seen[-3:].mean()), (seen[:, :3].mean(), seen[:, -3:].mean()):
        assert 0.4 < edges[1] / edges[0] < 2.5


def test_on_mnist_it_is_lenet_5():
    module = LeNet().build(Domain(shape=(1, 28, 28)), 10)
    # LeCun et al. 1998: 5x5 kernels, 6 and 16 maps, 400 features, 120, 84, 10
    expected = (6 * 25 + 6) + (16 * 150 + 16) + (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert sum(p.numel() for p in module.parameters()) == expected == 61_706


@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 8, 7), (3, 1, 1)])
def test_too_small_images_are_refused(shape):
    with pytest.raises(UsageError, match=r"lenet needs images of at least 8x8 pixels, but inputs"):
        LeNet().build(Domain(shape=shape), 10)


def test_features_are_refused():
    with pytest.raises(UsageError, match=r'lenet takes images, but .* 30 values; .*"mlp"'):
        LeNet().build(Domain(shape=(30,)), 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": [6]}, r"lenet\.channels must be a list of 2 whole numbers"),
        ({"channels": [6, 0]}, r"lenet\.channels\[1\] must be a whole number from 1"),
        ({"hidden": [120, 84.0]}, r"lenet\.hidden\[1\] must be a whole number"),
        ({"hidden": "120"}, r"lenet\.hidden must be a list"),
        ({"hidden": [True, 84]}, r"lenet\.hidden\[0\] must be a whole number"),
    ],
)
def test_settings_that_make_no_network_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        LeNet(**fields)


def test_lists_from_yaml_equal_tuples():
    assert LeNet(channels=[6, 16]) == LeNet(channels=(6, 16))
