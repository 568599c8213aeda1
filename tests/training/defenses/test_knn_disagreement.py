"""Deep k-NN against neighbors that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from sanitizing import SETS

from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.defenses import knn_disagreement
from casemate.training.defenses.knn_disagreement import KNNDisagreement, disagreement

# seven points on a line, the fourth with another label
LINE = torch.tensor([0.0, 1.0, 2.1, 3.3, 4.6, 20.0, 21.0])[:, None]
LABELS = torch.tensor([0, 0, 0, 1, 0, 1, 1])


def test_votes_by_hand():
    suspicious, scores = disagreement(LINE, LABELS, 2)
    # of point 3 (3.3): 2.1 and 4.6; of point 4: 3.3 (label 1) and 2.1: a tie, so it stays
    assert suspicious.tolist() == [False, False, False, True, False, False, False]
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0, 0.5, 0.5, 0.5])
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("block", [1, 20, 1 << 23])
def test_blocks_do_not_matter(block, monkeypatch):
    points = torch.randn(50, 4, generator=stream(0, "points").torch())
    labels = torch.arange(50) % 3
    monkeypatch.setattr(knn_disagreement, "_BLOCK", block)
    suspicious, scores = disagreement(points, labels, 7)
    away = torch.cdist(points, points).fill_diagonal_(math.inf)
    votes = torch.nn.functional.one_hot(labels[away.topk(7, largest=False).indices], 3).sum(1)
    own = votes.gather(1, labels[:, None]).squeeze(1)
    assert torch.equal(suspicious, own < votes.amax(1))
    torch.testing.assert_close(scores, 1 - own / 7)


@pytest.mark.parametrize(("k", "outvoted"), [(4, False), (9, True)])
def test_poison_that_lies_together_is_outvoted_by_more_than_twice_as_many(k, outvoted):
    # five poisoned samples beside 95 others; each has four poisoned neighbors
    points = torch.randn(120, 5, generator=stream(0, "points").torch())
    points[:5] = 0.01 * points[:5] + 4
    points[100:] += 50  # the class that the poison claims to be of
    labels = torch.zeros(120, dtype=torch.int64)
    labels[:5] = labels[100:] = 1
    suspicious, _ = disagreement(points, labels, k)
    assert suspicious[:5].tolist() == [outvoted] * 5
    assert not suspicious[5:].any()


def test_a_small_class_is_not_outvoted_by_its_size():
    points = torch.randn(100, 5, generator=stream(0, "points").torch())
    labels = torch.zeros(100, dtype=torch.int64)
    labels[:4] = 1
    points[:4] += 50
    suspicious, scores = disagreement(points, labels, 90)
    assert not suspicious.any()
    assert scores[:4].tolist() == [0.5] * 4  # three of its six voters


def test_the_only_one_of_its_class_is_not_judged():
    suspicious, scores = disagreement(LINE[:4], LABELS[:4], 2)
    assert not suspicious[3]
    assert scores[3].isnan()
    assert not disagreement(LINE[:1], LABELS[:1], 2)[0].any()


def test_far_from_the_origin_neighbors_are_the_same():
    near = disagreement(LINE, LABELS, 2)[1]
    torch.testing.assert_close(disagreement(LINE + 4096, LABELS, 2)[1], near)


def test_nobody_cannot_vote():
    with pytest.raises(UsageError, match=r"knn-disagreement\.k must be a whole number from 1"):
        KNNDisagreement(k=0)


def test_as_many_neighbors_as_samples_are_refused_before_a_model_is_trained():
    data = SETS["features"]
    with pytest.raises(UsageError, match=r"k is 60, but each of the 60 .* has 59 neighbors"):
        KNNDisagreement(k=60).sanitize(data, stream(0, "test"), None)
    KNNDisagreement(k=59).check(data, None)
    # a small class asks fewer, whatever k is
    labels = torch.arange(60).ge(56).long()
    some = KNNDisagreement(k=59)
    points = torch.randn(60, 3, generator=stream(0, "points").torch())
    assert disagreement(points, labels, some.k)[1][56:].mul(6).frac().abs().max() < 1e-6
