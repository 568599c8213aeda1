from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from casemate.hardware.ops.pooling import Pool2d

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    kernel=pairs,
    stride=pairs,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    ceil=st.booleans(),
)
def test_maxima_are_those_of_torch(kernel, stride, dilation, padding, size, ceil):
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    x = torch.randn(2, 3, *size)
    x[0, 0, 2, 2], x[0, 1, 3, 3], x[1, 0, 0, 0] = torch.nan, torch.inf, -torch.inf
    op = Pool2d(
        kind="max", kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil=ceil
    )
    expected = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceil)
    assert torch.equal(op.dense({}, x).nan_to_num(7.5), expected.nan_to_num(7.5))
