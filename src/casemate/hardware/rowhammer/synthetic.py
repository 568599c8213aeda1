"""Templates of modules that were not profiled, as vulnerable as real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.errors import ParameterError
from casemate.hardware.distinct import distinct
from casemate.hardware.parameters import check_whole
from casemate.hardware.rowhammer.template import MOST_CELLS, MOST_PAGES, PAGE, PROFILES, Template

if TYPE_CHECKING:
    import numpy as np

__all__ = ["synthetic"]

_BITS = 8 * PAGE  # of a page


def synthetic(
    rng: np.random.Generator,
    *,
    pages: int = 32768,
    density: float = PROFILES["G_1"].density,
    up_share: float = PROFILES["G_1"].up_share,
) -> Template:
    """Return a template with as many cells as a module has, anywhere on its pages.

    Any set of places is as likely as any other. Pages of most modules in `PROFILES` have as many
    cells as that gives; I_1 has more pages with very many.

    Args:
        rng: What places and directions are drawn by.
        pages: How many pages were profiled; 32,768 are 128 MiB.
        density: Vulnerable cells a page on average; their number is that of all pages, rounded.
        up_share: Probability of each cell that it goes from 0 to 1.

    Raises:
        ParameterError: If a parameter is out of range.
    """
    check_whole("pages", pages, high=MOST_PAGES)
    for key, value, high in (("density", density, _BITS), ("up_share", up_share, 1)):
        if not 0 <= value <= high:
            raise ParameterError(key, f"must be a number from 0 to {high}, got {value!r}")
    cells = round(density * pages)
    if cells > MOST_CELLS:
        raise ParameterError(
            "density",
            f"is {density:g} on {pages} pages, which are {cells} cells, but at most {MOST_CELLS} "
            f"are possible; give at most {MOST_CELLS / pages:g}",
        )
    place = distinct(rng, pages * _BITS, cells)
    return Template(
        page=place // _BITS,
        offset=place % _BITS // 8,
        bit=place % 8,
        up=rng.random(cells) < up_share,
        pages=pages,
    )
