from __future__ import annotations

import numpy as np
import torch

from casemate.hardware.found import Found


def test_rows_come_back_in_their_order_and_once():
    found, rng, parts = Found(), np.random.default_rng(0), []
    for size in (0, 3, 5000, 1, 20_000):  # the table grows twice
        part = rng.integers(-1, 1 << 40, (3, size))
        broken = rng.random(size) < 0.5
        found.add(*map(torch.from_numpy, part), torch.from_numpy(broken))
        parts.append((*part, broken))
    taken = found.take()
    for column, expected in zip(taken, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(expected))
    assert taken[3].dtype == bool
    found.add(*[torch.tensor([7])] * 3, torch.tensor([True]))
    assert [c.tolist() for c in found.take()] == [[7], [7], [7], [True]]
    assert [len(c) for c in taken] == [25_004] * 4  # not overwritten
