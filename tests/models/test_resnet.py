from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.resnet import ResNet


@settings(max_examples=20)
@given(
    channels=st.integers(1, 4),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    classes=st.integers(2, 50),
    blocks=st.integers(1, 3),
)
def test_any_image_gives_one_score_a_class(channels, height, width, classes, blocks):
    shape = (channels, height, width)
    module = ResNet(width=4, blocks=blocks).build(Domain(shape=shape), classes)
    assert module(torch.rand(2, *shape)).shape == (2, classes)


def test_the_default_is_resnet_20():
    module = ResNet().build(Domain(shape=(3, 32, 32)), 10)
    weighted = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    # the two 1x1 shortcuts are not counted as layers
    assert len([m for m in weighted if getattr(m, "kernel_size", None) != (1, 1)]) == 20
    # He et al., CVPR 2016, table 6: 0.27 M parameters
    assert round(sum(p.numel() for p in module.parameters()) / 1e6, 2) == 0.27


def test_blocks_add_to_their_input():
    """With the last convolution of each block at zero the blocks of one stage do nothing."""
    module = ResNet(width=4, blocks=3).build(Domain(shape=(1, 8, 8)), 3)
    x = torch.rand(2, 4, 8, 8)
    block = module.blocks[1]
    assert not torch.equal(block(x), x)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)


def test_too_small_images_and_features_are_refused():
    with pytest.raises(UsageError, match="resnet needs images of at least 8x8"):
        ResNet().build(Domain(shape=(1, 4, 4)), 3)
    with pytest.raises(UsageError, match="resnet takes images"):
        ResNet().build(Domain(shape=(4,)), 3)


@pytest.mark.parametrize("fields", [{"width": 0}, {"width": 2.5}, {"blocks": 0}, {"blocks": 99}])
def test_settings_that_make_no_network_are_refused(fields):
    with pytest.raises(UsageError, match=rf"resnet\.{next(iter(fields))} must be a whole number"):
        ResNet(**fields)
