"""The vulnerable cells of a DRAM module, each flipped in its own direction only.

And how many of them real modules have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from casemate.errors import ParameterError
from casemate.hardware.parameters import check_whole
from casemate.identity import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOST_CELLS", "MOST_PAGES", "PAGE", "PROFILES", "Profile", "Template", "wrong_cell"]

PAGE = 4096
"""Bytes of a page."""

MOST_PAGES = 1 << 24
"""Most pages that a template has: 64 GiB."""

MOST_CELLS = 1 << 22
"""Most cells that are drawn, or read from a file."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How vulnerable a module is.

    Attributes:
        density: Vulnerable cells a page of 4 KiB.
        up_share: Share of them that go from 0 to 1; the others go from 1 to 0.
    """

    density: float
    up_share: float


PROFILES: Mapping[str, Profile] = {
    name: Profile(density=cells / 32768, up_share=up / cells)
    for name, cells, up in (
        ("A_2", 13555, 13553),
        ("A_3", 1987, 1029),
        ("B_1", 1083, 1),
        ("C_1", 16486, 1365),
        ("D_1", 1510, 0),
        ("E_2", 15440, 10263),
        ("G_1", 10289, 5047),
        ("H_1", 10157, 6709),
        ("I_1", 130193, 4780),
        ("J_1", 4599, 3017),
    )
}
"""DDR3 modules by their names in Tatar et al., "Defeating software mitigations against Rowhammer: a
surgical precision hammer" (RAID 2018): different cells in 128m.double.res of its tables
(github.com/vusec/hammertime-fliptables), double-sided over 128 MiB, 32,768 pages. Counted by us.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """The vulnerable cells of a DRAM module, sorted by page, offset and bit.

    Attributes:
        page: (m,) int64 in [0, pages), the profiled page of each cell.
        offset: (m,) int64 in [0, 4096), its byte in the page.
        bit: (m,) int64 in [0, 8), 0 is the least significant.
        up: (m,) bool, whether it goes from 0 to 1; else from 1 to 0.
        pages: How many pages were profiled, those without vulnerable cells too.

    Raises:
        ParameterError: If a number is out of range or a cell is there twice.
    """

    page: np.ndarray
    offset: np.ndarray
    bit: np.ndarray
    up: np.ndarray
    pages: int

    def __post_init__(self) -> None:
        check_whole("pages", self.pages, high=MOST_PAGES)
        arrays = [np.asarray(a) for a in (self.page, self.offset, self.bit, self.up)]
        if any(a.ndim != 1 or len(a) != len(arrays[0]) for a in arrays):
            raise ParameterError("page", "must have one number a cell, as offset, bit and up must")
        if any(len(a) and a.dtype.kind not in "iu" for a in arrays[:3]):
            raise ParameterError("page", "must have whole numbers, as offset and bit must")
        page, offset, bit = (a.astype(np.int64) for a in arrays[:3])
        wrong = wrong_cell(page, offset, bit, self.pages)
        if wrong:
            raise ParameterError(f"cell {wrong[0]}", f"{wrong[1]}; correct it or leave it out")
        order = np.argsort(_place(page, offset, bit))
        kept = (page, offset, bit, arrays[3].astype(bool))
        for name, column in zip(("page", "offset", "bit", "up"), kept, strict=True):
            ordered = column[order]
            ordered.flags.writeable = False
            object.__setattr__(self, name, ordered)

    def __len__(self) -> int:
        """Return how many cells there are."""
        return len(self.page)

    @cached_property
    def digest(self) -> str:
        """Hash of the cells and of how many pages were profiled."""
        place = _place(self.page, self.offset, self.bit)
        held = np.append(2 * place + self.up, self.pages).astype("<i8")
        return digest_bytes(f"rowhammer template, {PAGE}".encode(), held.tobytes())

    @cached_property
    def code(self) -> np.ndarray:
        """(m,) int64, of each cell its place in the page and its direction: 2 * bit + up."""
        code: np.ndarray = 2 * (8 * self.offset + self.bit) + self.up
        return code

    @cached_property
    def _by_code(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.code, kind="stable")
        return self.code[order], self.page[order]

    def pages_with(self, code: int) -> np.ndarray:
        """Return the pages that have a cell of that code, ascending."""
        codes, pages = self._by_code
        return pages[slice(*np.searchsorted(codes, [code, code + 1]))]

    def codes_on(self, page: int) -> np.ndarray:
        """Return the codes of a page's cells."""
        return self.code[slice(*np.searchsorted(self.page, [page, page + 1]))]


def wrong_cell(
    page: np.ndarray, offset: np.ndarray, bit: np.ndarray, pages: int
) -> tuple[int, str] | None:
    """Return the first cell that cannot be, counted from 0, and why; None if all can.

    Args:
        page: (m,) int64, as in a `Template`.
        offset: (m,) int64.
        bit: (m,) int64.
        pages: How many pages were profiled.
    """
    for name, column, count in (("page", page, pages), ("offset", offset, PAGE), ("bit", bit, 8)):
        outside = np.flatnonzero((column < 0) | (column >= count))
        if len(outside):
            i = int(outside[0])
            return i, f"has the {name} {column[i]}, which is not from 0 to {count - 1}"
    place = _place(page, offset, bit)
    order = np.argsort(place, kind="stable")
    again = order[1:][np.diff(place[order]) == 0]
    return (int(again.min()), "is there twice") if len(again) else None


def _place(page: np.ndarray, offset: np.ndarray, bit: np.ndarray) -> np.ndarray:
    """Return where cells are, counted in bits through all pages."""
    place: np.ndarray = 8 * (PAGE * page + offset) + bit
    return place
