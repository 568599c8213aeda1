"""A model of three pages, templates of a few cells, and what they flip, cell by cell."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from hypothesis import strategies as st

from casemate.hardware.memory import Memory, region
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.template import PAGE, Template

ALL = Everywhere(roles=("weight", "bias", "scale"))
CELL = st.tuples(st.integers(0, 4), st.integers(0, PAGE - 1), st.integers(0, 7), st.integers(0, 1))
CELLS = st.lists(CELL, max_size=40, unique_by=lambda c: c[:3])


@cache
def memory():
    """Return a memory of three pages, the last one in part."""
    rng = torch.Generator().manual_seed(0)
    return Memory(
        [
            region("a", torch.randn(6000, generator=rng) * 50, "int8", layer="a", role="weight"),
            region("b", torch.randn(5, generator=rng) * 4, "int4", layer="b", role="bias"),
            region("c", torch.randn(700, generator=rng), "float32", layer="c", role="weight"),
        ]
    )


def template(cells, pages):
    """Return a template of (page, offset, bit, up)."""
    page, offset, bit, up = np.array(cells, dtype=np.int64).reshape(-1, 4).T
    return Template(page=page, offset=offset, bit=bit, up=up == 1, pages=pages)


def slowly_reachable(held, made, pages):
    """Return what flips, cell by cell."""
    found = []
    columns = (made.page.tolist(), made.offset.tolist(), made.bit.tolist(), made.up.tolist())
    for page, offset, bit, up in zip(*columns, strict=True):
        for mine in np.flatnonzero(pages == page):
            number = int(held.at(np.array([mine * PAGE + offset]), np.array([bit]))[0])
            if number >= 0 and held.read(np.array([number]))[0] == (0 if up else 1):
                found.append(number)
    return sorted(found)
