from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from casemate.hardware.ops import operator_norm
from casemate.hardware.ops.operator_norm import convolution, matrix


def explicit(weight, size, stride, padding):
    """Return the convolution as one matrix."""
    basis = torch.eye(weight.shape[1] * size[0] * size[1]).view(-1, weight.shape[1], *size)
    return F.conv2d(basis, weight, stride=stride, padding=padding).flatten(1).t()


@given(
    seed=st.integers(0, 10**6),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
)
def test_a_convolution_stretches_no_more_than_the_bound(seed, kernel, size, stride, padding):
    weight = torch.randn(3, 2, *kernel, generator=torch.Generator().manual_seed(seed))
    every, one = convolution(weight, [n + 2 * padding for n in size])
    dense = explicit(weight, size, stride, padding)
    true = float(torch.linalg.matrix_norm(dense, ord=2))
    assert true <= every
    columns = dense.view(len(dense), 2, -1)
    for c in range(2):
        assert float(torch.linalg.matrix_norm(columns[:, c], ord=2)) <= float(one[c])


def test_the_bound_is_near_for_large_maps():
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    every, _ = convolution(weight, [14, 14])
    true = float(torch.linalg.matrix_norm(explicit(weight, (12, 12), 1, 1), ord=2))
    assert true <= every <= 1.05 * true


def test_fewer_frequencies_still_bound(monkeypatch):
    monkeypatch.setattr(operator_norm, "_POINTS", 10)
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    every, one = convolution(weight, [20, 20])
    dense = explicit(weight, (18, 18), 1, 1)
    true = float(torch.linalg.matrix_norm(dense, ord=2))
    assert true <= every <= 3 * true
    alone = float(torch.linalg.matrix_norm(dense.view(len(dense), 2, -1)[:, 0], ord=2))
    assert alone <= float(one[0]) <= 3 * alone


def test_large_matrices_and_channels_get_a_wider_bound(monkeypatch):
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(3))
    near = matrix(weight)
    assert near == pytest.approx(float(torch.linalg.matrix_norm(weight, ord=2)), rel=1e-3)
    kernel = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(4))
    every, _ = convolution(kernel, [8, 8])
    monkeypatch.setattr(operator_norm, "_LARGEST", 4)
    assert matrix(weight) >= near
    assert convolution(kernel, [8, 8])[0] >= every / 1.0001


def test_one_tap_is_its_matrix():
    weight = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(5))
    every, one = convolution(weight, [7, 7])
    assert every == pytest.approx(matrix(weight[:, :, 0, 0]), rel=1e-3)
    assert torch.allclose(one, weight[:, :, 0, 0].norm(dim=0), rtol=1e-3)


def test_a_peak_between_frequencies_is_bounded_too(monkeypatch):
    """The transform of [1, 0, -1] is largest at a quarter turn, which ten points leave out."""
    monkeypatch.setattr(operator_norm, "_POINTS", 10)
    weight = torch.tensor([1.0, 0.0, -1.0]).view(1, 1, 1, 3)
    every, one = convolution(weight, [12, 40])
    true = float(torch.linalg.matrix_norm(explicit(weight, (12, 40), 1, 0), ord=2))
    assert 1.95 < true <= every
    assert true <= float(one[0])
