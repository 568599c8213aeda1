from __future__ import annotations

import numpy as np
import pytest
import torch
from sanitizing import SETS, in_turn, lab, made
from scipy.stats import chisquare

from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.defenses.partition_aggregation import PartitionAggregation, hashes, parts

on_every_set = pytest.mark.parametrize("data", SETS)


@pytest.fixture(autouse=True)
def _in_turn(monkeypatch):
    """Models here are so small that processes cost more than they save."""
    in_turn(monkeypatch)


def where(data, count):
    out = torch.full((len(data),), -1)
    for i, part in enumerate(parts(data, count)):
        out[part] = i
    return out


@on_every_set
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_sample_is_in_one_part(data, count):
    data = SETS[data]
    divided = parts(data, count)
    assert len(divided) == count
    assert torch.cat(divided).sort().values.tolist() == list(range(len(data)))


@on_every_set
def test_the_part_of_a_sample_depends_on_its_input_alone(data):
    data = SETS[data]
    n = len(data)
    full = where(data, 5)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: n // 2]
    assert torch.equal(where(data.select(order, how="view"), 5), full[order])
    other = (data.targets + 1) % len(data.classes)
    assert torch.equal(where(data.replaced(torch.arange(n), labels=other, how="x"), 5), full)
    twice = data.select(torch.arange(n).repeat(2), how="twice")
    assert torch.equal(where(twice, 5), full.repeat(2))


def test_bytes_and_the_same_floats_have_the_same_hash_and_so_have_both_zeros():
    byte = made((1, 8, 8))
    floats = made((1, 8, 8), kind=np.float32)
    assert torch.equal(
        hashes(floats.replaced(torch.arange(60), inputs=byte.batch(slice(None)), how="x")),
        hashes(byte),
    )
    zeros = [
        floats.replaced(torch.arange(1), inputs=torch.full((1, 1, 8, 8), z), how="x")
        for z in (0.0, -0.0)
    ]
    assert hashes(zeros[0])[0] == hashes(zeros[1])[0]


def test_values_with_few_bits_spread_over_the_parts():
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4000, 1, 5, 5)))
    rows = rows.unique(dim=0).float()
    n = len(rows)
    data = made((1, 5, 5), labels=np.arange(n) % 3, kind=np.float32)
    data = data.replaced(torch.arange(n), inputs=rows, how="binary")
    assert len(hashes(data).unique()) == n
    for count in (2, 16, 50):
        assert chisquare(torch.bincount(where(data, count)).numpy()).pvalue > 1e-3


def test_one_changed_pixel_is_another_hash():
    data = made((1, 8, 8))
    x = data.batch(torch.zeros(60, dtype=torch.int64)).flatten(1)
    x[torch.arange(1, 60), torch.arange(1, 60)] += 1 / 255
    changed = data.replaced(torch.arange(60), inputs=x.clamp(0, 1).view(60, 1, 8, 8), how="x")
    same = (x.clamp(0, 1) == x[0]).all(1).sum()
    assert len(hashes(changed).unique()) == 61 - same


def test_a_poisoned_sample_changes_the_model_of_its_part_alone():
    data = SETS["gray bytes"]
    defense = PartitionAggregation(partitions=4)
    flipped = data.replaced(torch.tensor([7]), labels=(data.labels[7:8] + 1) % 3, how="flip")
    backwards = data.select(torch.arange(59, -1, -1), how="backwards")
    base, poisoned, turned = (
        defense.train(d, stream(s, "test"), lab()).model
        for s, d in enumerate((data, flipped, backwards))
    )
    changed = [
        any(not torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
        for a, b in zip(base.members, poisoned.members, strict=True)
    ]
    assert changed == [i == where(data, 4)[7] for i in range(4)]
    for a, b in zip(base.members, turned.members, strict=True):
        assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
    assert len({base.digest, poisoned.digest, turned.digest}) == 3


def test_one_part_is_plain_training_on_the_samples_in_their_order():
    data = SETS["color bytes"]
    (order,) = parts(data, 1)
    plain = lab().trained(data.select(order, how="sorted"))
    made_of = PartitionAggregation(partitions=1).train(data, stream(0, "test"), lab()).model
    (member,) = made_of.members
    assert all(torch.equal(member.weights[k], v) for k, v in plain.weights.items())
    x = data.batch(slice(None))
    assert torch.equal(made_of.target().labels(x), plain.target().labels(x))


def test_members_differ_in_seed():
    data = SETS["gray bytes"]
    found = PartitionAggregation(partitions=3).train(data, stream(0, "test"), lab()).model
    assert [m.seed for m in found.members] == [lab().seed_of(i) for i in range(3)]
    assert len({m.digest for m in found.members}) == 3


def test_parts_that_are_too_small_are_refused_at_work_and_before():
    data = SETS["gray bytes"]
    smallest = int(torch.bincount(where(data, 40), minlength=40).min())
    defense = PartitionAggregation(partitions=40)
    for act in (
        lambda: defense.train(data, stream(0, "test"), lab()),
        lambda: defense.check(data, lab()),
    ):
        with pytest.raises(UsageError) as found:
            act()
        assert str(found.value) == (
            f"partitions is 40, which leaves a part of made with {smallest} samples, but training "
            "needs 2; use fewer partitions"
        )
    PartitionAggregation(partitions=4).check(data, lab())


def test_nothing_is_hashed_ahead_where_parts_are_large_on_average(monkeypatch):
    monkeypatch.delattr("casemate.training.defenses.partition_aggregation.hashes")
    data = SETS["gray bytes"]
    PartitionAggregation(partitions=2).check(data, lab())
    with pytest.raises(NameError):
        PartitionAggregation(partitions=3).check(data, lab())


def test_a_hash_is_the_mixed_sum_of_bits_times_factors_modulo_two_to_the_64():
    data = SETS["features"]
    factors = stream(0, "partition aggregation/hash").torch()
    weights = torch.randint(-(2**63), 2**63 - 1, (5,), generator=factors) | 1
    bits = data.batch(slice(None)).view(torch.int32)
    expected = []
    for row in bits.tolist():
        h = sum(b * w for b, w in zip(row, weights.tolist(), strict=True)) % 2**64
        for _ in range(2):
            h = (h ^ (h >> 33 & 0x7FFFFFFF)) * 0xFF51AFD7ED558CCD % 2**64
        h ^= h >> 33 & 0x7FFFFFFF
        expected.append(h - 2**64 if h >= 2**63 else h)
    assert hashes(data).tolist() == expected
