from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from casemate.random import philox4x32, stream

ONES = 0xFFFFFFFF


def numbered(n, start=0):
    """(n, 2) names of n jobs."""
    return torch.stack([torch.arange(start, start + n), torch.arange(start, start + n) * 7], 1)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # the known answers that Random123 1.14 ships for philox4x32 with 10 rounds
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (ONES, ONES, ONES, ONES),
            (ONES, ONES),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, words):
    got = philox4x32(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in got) == words


def test_a_draw_is_philox_of_block_job_and_draw():
    """The layout of the counter is part of every cached result: it must not move."""
    s = stream(3, "layout")
    got = s.uniform(torch.tensor([[11, 13]]), (6,), draw=5)[0]
    for i in range(6):
        counter = tuple(torch.tensor([c]) for c in (i // 4, 11, 13, 5))
        word = int(philox4x32(counter, (s.key & ONES, s.key >> 32))[i % 4])
        assert float(got[i]) == (word >> 8) / 2**24


def test_streams_keep_their_numbers():
    """Pinned: a change here makes every stored result irreproducible."""
    s = stream(0, "pgd/start")
    named = hashlib.blake2b(b"0/pgd/start", digest_size=8).digest()
    assert s.key == int.from_bytes(named, "little") == 0xBE8FC95923711BC9
    jobs = torch.tensor([[1, 2]])
    assert (s.uniform(jobs, (3,)) * 2**24).tolist() == [[3029861, 10908338, 14473206]]


def test_normal_is_box_and_muller_of_the_words():
    s = stream(4, "pair")
    jobs = numbered(3)
    u = s.uniform(jobs, (10,)).double()
    radius = torch.sqrt(-2 * torch.log(u[:, :5] + 2.0**-24))
    angle = 2 * torch.pi * u[:, 5:]
    expected = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
    torch.testing.assert_close(s.normal(jobs, (10,)).double(), expected, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 9), st.data())
def test_numbers_do_not_depend_on_batch_or_order(n, size, data):
    jobs = numbered(n)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    cut = data.draw(st.integers(0, n))
    s = stream(1, "batch")
    for draw in (s.uniform, s.normal):
        whole = draw(jobs, (size, 2), draw=3)
        assert torch.equal(draw(jobs[order], (size, 2), draw=3), whole[order])
        parts = [draw(part, (size, 2), draw=3) for part in (jobs[:cut], jobs[cut:])]
        assert torch.equal(torch.cat(parts), whole)


def test_shapes_and_ranges():
    s = stream(1, "shape")
    assert s.uniform(numbered(3), (2, 5, 7)).shape == (3, 2, 5, 7)
    assert s.normal(numbered(3), (5,)).shape == (3, 5)
    assert s.uniform(numbered(3), ()).shape == (3,)
    assert s.uniform(numbered(0), (4,)).shape == (0, 4)
    assert s.normal(numbered(0), (3,)).shape == (0, 3)
    u = s.uniform(numbered(100), (1000,))
    assert u.dtype == torch.float32
    assert float(u.min()) >= 0.0
    assert float(u.max()) < 1.0
    assert torch.equal(u * 2**24, (u * 2**24).round())


def test_uniform_is_uniform():
    u = stream(5, "ks").uniform(numbered(500), (400,)).flatten().double().numpy()
    assert kstest(u, "uniform").pvalue > 1e-3
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / u.size)


def test_normal_is_normal_and_uncorrelated():
    z = stream(5, "ks").normal(numbered(500), (401,))  # odd: the last pair is cut
    flat = z.flatten().double().numpy()
    assert kstest(flat, "norm").pvalue > 1e-3
    assert abs(flat.var() - 1) < 5 * np.sqrt(2 / flat.size)
    # cosine and sine halves of one pair, neighbors, and the same place of two jobs
    bound = 5 / np.sqrt(500 * 200)
    halves = z[:, :200].flatten(), z[:, 201:401].flatten()
    for a, b in (halves, (z[:, :-1].flatten(), z[:, 1:].flatten()), (z[::2], z[1::2])):
        pair = torch.stack([a.flatten(), b.flatten()]).double()
        assert abs(float(torch.corrcoef(pair)[0, 1])) < bound


def test_streams_jobs_and_draws_differ():
    jobs = numbered(2)
    rows = [
        s.uniform(jobs, (64,), draw=draw)[i]
        for s in (
            stream(0, "a"),
            stream(1, "a"),
            stream(0, "b"),
            stream(0, "a").child("b"),
            stream(0, "a/b"),
        )
        for draw in (0, 1)
        for i in (0, 1)
    ]
    for a, b in itertools.combinations(rows, 2):
        assert not torch.equal(a, b)
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.6


def test_generators_start_afresh_and_seed_nothing_globally():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what is watched
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - as above
    s = stream(9, "order")
    assert (
        s.numpy().integers(1 << 30, size=8).tolist() == s.numpy().integers(1 << 30, size=8).tolist()
    )
    first = torch.randperm(50, generator=s.torch())
    assert torch.equal(first, torch.randperm(50, generator=s.torch()))
    assert not torch.equal(first, torch.randperm(50, generator=stream(9, "other").torch()))
    s.uniform(numbered(4), (4,))
    s.normal(numbered(4), (4,))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002 - as above
