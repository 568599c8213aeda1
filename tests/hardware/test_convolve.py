"""Convolution in double precision, a few inputs at a time: the same numbers as all at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from casemate.hardware.ops import convolve as module
from casemate.hardware.ops.convolve import convolve


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 0, 1), (1, 2, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_parts_are_put_together_as_they_were(monkeypatch, dtype, stride, padding, dilation, groups):
    monkeypatch.setattr(module, "_COLUMNS", 4 * 9 * 7 * 8 * 3)  # three inputs at a time
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-9, 9, (11, 4, 7, 8), generator=rng).to(dtype)
    weight = torch.randint(-9, 9, (6, 4 // groups, 3, 3), generator=rng).to(dtype)
    bias = torch.randint(-9, 9, (6,), generator=rng).to(dtype)
    pairs = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2}
    for few in (x, x[:1], x[:0]):
        out = convolve(few, weight, bias, **pairs, groups=groups)
        assert out.dtype is dtype
        assert torch.equal(out, F.conv2d(few, weight, bias, stride, padding, dilation, groups))
