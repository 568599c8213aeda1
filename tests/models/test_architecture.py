from __future__ import annotations

import pytest
import torch

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.architecture import initialize, skeleton
from casemate.models.lenet import LeNet
from casemate.models.mlp import MLP
from casemate.models.resnet import ResNet
from casemate.models.vgg import VGG
from casemate.random import stream

DOMAIN = Domain(shape=(3, 32, 32))
ARCHITECTURES = [LeNet(), VGG(), ResNet(), MLP()]
by_name = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: type(a).__name__)


@by_name
def test_a_stream_decides_the_weights_and_nothing_else_does(architecture):
    torch.manual_seed(1)
    first = initialize(architecture, DOMAIN, 7, stream(0, "a")).state_dict()
    torch.manual_seed(2)
    again = initialize(architecture, DOMAIN, 7, stream(0, "a")).state_dict()
    other = initialize(architecture, DOMAIN, 7, stream(0, "b")).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    weights = [k for k in first if k.endswith("weight") and first[k].ndim > 1]
    assert len(weights) >= 3
    assert not any(torch.equal(first[k], other[k]) for k in weights)


@by_name
def test_the_global_generator_is_left_alone(architecture):
    before = torch.random.get_rng_state()
    initialize(architecture, DOMAIN, 7, stream(0, "a"))
    skeleton(architecture, DOMAIN, 7)
    assert torch.equal(torch.random.get_rng_state(), before)


@by_name
def test_a_skeleton_has_the_shapes_but_no_memory(architecture):
    real = initialize(architecture, DOMAIN, 7, stream(0, "a")).state_dict()
    bare = skeleton(architecture, DOMAIN, 7).state_dict()
    assert {k: v.shape for k, v in bare.items()} == {k: v.shape for k, v in real.items()}
    assert all(v.is_meta for v in bare.values())


@by_name
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_grey_and_color_of_other_sizes_work(architecture, shape):
    module = initialize(architecture, Domain(shape=shape), 2, stream(0, "a"))
    assert module(torch.rand(2, *shape)).shape == (2, 2)


def test_one_class_is_refused():
    with pytest.raises(UsageError, match="at least 2 classes, but the data has 1"):
        initialize(LeNet(), DOMAIN, 1, stream(0, "a"))
