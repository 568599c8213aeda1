from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from casemate.inference.batch_norm import light_batch_norm


def layer_of(kind=nn.BatchNorm2d, *, gradients=False, **settings):
    generator = torch.Generator().manual_seed(3)
    layer = kind(4, **settings).eval().requires_grad_(gradients)
    with torch.no_grad():
        for name in ("running_mean", "running_var", "weight", "bias"):
            tensor = getattr(layer, name)
            if tensor is not None:
                tensor.copy_(torch.rand(4, generator=generator) + 0.25)
    return layer


def answer(module, x):
    """Return the output and the gradient of a function that is not linear in it."""
    point = x.clone().requires_grad_(True)
    out = module(point)
    (gradient,) = torch.autograd.grad((out**3).sum(), point)
    return out.detach(), gradient, type(out.grad_fn).__name__


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (5, 4)),
        (nn.BatchNorm1d, (5, 4, 7)),
        (nn.BatchNorm2d, (5, 4, 3, 6)),
        (nn.BatchNorm3d, (5, 4, 3, 2, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_are_the_same_bits_and_gradients_agree(kind, shape, affine, dtype):
    layer = layer_of(kind, affine=affine).to(dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    out, gradient, _ = answer(layer, x)
    with light_batch_norm([nn.Sequential(layer)]):
        light_out, light_gradient, made_by = answer(layer, x)
    assert made_by == "_ScaleBackward"
    assert torch.equal(light_out, out)
    torch.testing.assert_close(light_gradient, gradient)


def test_channels_last_stays_channels_last():
    x = torch.randn(5, 4, 3, 6).contiguous(memory_format=torch.channels_last)
    layer = layer_of()
    with light_batch_norm([layer]):
        out, gradient, _ = answer(layer, x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_the_layer_is_left_as_it_was_also_by_an_exception():
    layer = layer_of()
    before = dict(vars(layer))
    changed = []
    try:
        with light_batch_norm([layer, nn.Sequential(layer)]):
            changed.append(vars(layer) != before)
            layer(None)
    except AttributeError:
        changed.append(vars(layer) != before)
    assert changed == [True, False]


class Own(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    "layer",
    [
        layer_of().train(),
        layer_of(gradients=True),
        layer_of(track_running_stats=False),
        layer_of(Own),
    ],
    ids=["training", "parameters want gradients", "statistics of the batch", "a class of its own"],
)
def test_other_layers_do_what_they_always_do(layer):
    x = torch.randn(5, 4, 3, 6, generator=torch.Generator().manual_seed(1))
    out, gradient, made_by = answer(layer, x)
    with light_batch_norm([layer]):
        light_out, light_gradient, light_made_by = answer(layer, x)
    assert light_made_by == made_by
    assert torch.equal(light_out, out)
    assert torch.equal(light_gradient, gradient)


def test_a_model_that_runs_again_for_its_backward_pass():
    layer = layer_of()
    x = torch.randn(5, 4, 3, 6)
    _, gradient, _ = answer(layer, x)
    with light_batch_norm([layer]):
        _, again, _ = answer(lambda p: checkpoint(layer, p, use_reentrant=False), x)
    torch.testing.assert_close(again, gradient)


def test_a_model_that_maps_over_samples():
    layer = layer_of()
    x = torch.randn(3, 5, 4, 3, 6)
    _, gradient, _ = answer(torch.func.vmap(layer), x)
    with light_batch_norm([layer]):
        _, mapped, _ = answer(torch.func.vmap(layer), x)
    torch.testing.assert_close(mapped, gradient)


def test_a_replicated_model_is_left_alone():
    layer = layer_of()
    with light_batch_norm([nn.DataParallel(layer)]):
        assert "forward" not in vars(layer)


def test_inputs_of_another_rank_are_still_refused():
    layer = layer_of()
    with light_batch_norm([layer]), pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.randn(5, 4, requires_grad=True))
