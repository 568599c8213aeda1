from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.vgg import VGG


@settings(max_examples=20)
@given(
    channels=st.integers(1, 4),
    height=st.integers(16, 48),
    width=st.integers(16, 48),
    classes=st.integers(2, 50),
)
def test_the_default_takes_images_from_16_pixels(channels, height, width, classes):
    shape = (channels, height, width)
    module = VGG().build(Domain(shape=shape), classes)
    assert module(torch.rand(2, *shape)).shape == (2, classes)


@settings(max_examples=20)
@given(
    layers=st.lists(st.one_of(st.integers(1, 12), st.just("M")), min_size=1, max_size=8).filter(
        lambda layers: any(k != "M" for k in layers) and layers.count("M") <= 4
    ),
)
def test_any_list_of_widths_and_pools_is_built_in_order(layers):
    module = VGG(layers=layers).build(Domain(shape=(3, 16, 20)), 5)
    built = [
        "M" if isinstance(m, nn.MaxPool2d) else m.out_channels
        for m in module
        if isinstance(m, (nn.Conv2d, nn.MaxPool2d))
    ]
    assert built == layers
    assert module(torch.rand(2, 3, 16, 20)).shape == (2, 5)


def test_too_many_pools_for_the_image_are_refused():
    with pytest.raises(UsageError, match=r"vgg needs images of at least 32x32 pixels, .* 16x16"):
        VGG(layers=(4, "M", "M", "M", "M", "M")).build(Domain(shape=(3, 16, 16)), 5)


def test_dropout_is_off_unless_asked_for():
    domain = Domain(shape=(3, 16, 16))
    assert not any(isinstance(m, nn.Dropout) for m in VGG().build(domain, 5))
    dropping = [m for m in VGG(dropout=0.25).build(domain, 5) if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropping] == [0.25]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": []}, r'vgg\.layers must be a list of 1 to 64 widths and "M"'),
        ({"layers": ["M"]}, "no convolution"),
        ({"layers": [8, "P"]}, r'vgg\.layers\[1\] must be a width or "M" for a pool, got "P"'),
        ({"layers": [8, -1]}, r"vgg\.layers\[1\] must be a whole number"),
        ({"layers": [10**9]}, r"vgg\.layers\[0\] must be a whole number from 1 to 8192"),
        ({"layers": "MMM"}, r"vgg\.layers must be a list"),
        ({"dropout": 1.0}, r"vgg\.dropout must be a number of at least 0 and at most 0.95"),
        ({"dropout": float("nan")}, r"vgg\.dropout must be a number"),
    ],
)
def test_settings_that_make_no_network_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        VGG(**fields)
