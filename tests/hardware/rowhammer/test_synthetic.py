from __future__ import annotations

import numpy as np
import pytest
from memories import LIKELY
from scipy import stats

from casemate.errors import ParameterError
from casemate.hardware.rowhammer.synthetic import synthetic
from casemate.hardware.rowhammer.template import PAGE, PROFILES


def test_a_synthetic_template_is_as_dense_as_the_module():
    made = synthetic(np.random.default_rng(1))
    assert made.pages == 32768
    assert len(made) == 10289  # module G_1
    assert made.up.mean() == pytest.approx(5047 / 10289, abs=4 * (0.25 / 10289) ** 0.5)
    place = (made.page * PAGE + made.offset) * 8 + made.bit
    assert (np.diff(place) > 0).all()  # sorted, none twice
    counts, _ = np.histogram(place, bins=64, range=(0, 32768 * PAGE * 8))
    assert stats.chisquare(counts).pvalue > LIKELY
    assert stats.chisquare(np.bincount(made.bit)).pvalue > LIKELY


@pytest.mark.parametrize(("name", "up", "down"), [("G_1", 0.14, 0.15), ("C_1", 0.04, 0.36)])
def test_a_module_offers_a_place_and_direction_as_often_as_the_real_one(name, up, down):
    """Rows of the published tables: the share of (byte, bit) with a cell on some page."""
    profile = PROFILES[name]
    made = synthetic(np.random.default_rng(2), density=profile.density, up_share=profile.up_share)
    codes = np.unique(made.code)
    assert (codes % 2 == 1).sum() / (8 * PAGE) == pytest.approx(up, abs=0.01)
    assert (codes % 2 == 0).sum() / (8 * PAGE) == pytest.approx(down, abs=0.01)


def test_pages_have_as_many_cells_as_those_of_the_real_module():
    """C_1 has 39 % of pages with a cell, 9.3 % with two."""
    made = synthetic(np.random.default_rng(3), density=PROFILES["C_1"].density)
    counts = np.bincount(made.page, minlength=made.pages)
    assert (counts >= 1).mean() == pytest.approx(0.39, abs=0.01)
    assert (counts >= 2).mean() == pytest.approx(0.093, abs=0.01)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"density": -1}, "density must be a number from 0 to 32768, got -1"),
        ({"density": float("nan")}, "density must be a number from 0 to 32768, got nan"),
        ({"up_share": 1.5}, "up_share must be a number from 0 to 1, got 1.5"),
        ({"pages": 0}, "pages must be a whole number from 1 to 16777216, got 0"),
        (
            {"density": 1000},
            (
                "density is 1000 on 32768 pages, which are 32768000 cells, but at most 4194304 are "
                "possible; give at most 128"
            ),
        ),
    ],
)
def test_a_template_that_cannot_be_made_is_one_sentence(parameters, sentence):
    with pytest.raises(ParameterError) as caught:
        synthetic(np.random.default_rng(0), **parameters)
    assert str(caught.value) == sentence
