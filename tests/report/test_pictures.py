from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from casemate.report import pictures


def decode(uri):
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_picture_shows_its_values():
    image = np.array([[[0.0, 0.5], [1.0, 0.25]]], np.float32).repeat(3, 0)
    image[1] = 0
    shown = decode(pictures.picture(image, 0, 1))
    assert shown[..., 0].tolist() == [[0, 128], [255, 64]]
    assert not shown[..., 1].any()


def test_bounds_of_the_domain_are_black_and_white():
    shown = decode(pictures.picture(np.array([[[-1.0, 1.0]] * 2], np.float32), -1, 1))
    assert shown.tolist() == [[0, 255], [0, 255]]


def test_values_that_are_no_numbers_are_black():
    shown = decode(pictures.picture(np.array([[[np.nan, np.inf]] * 2], np.float32), 0, 1))
    assert shown.tolist() == [[0, 255], [0, 255]]


@pytest.mark.parametrize(
    ("change", "width", "factor"),
    [
        (8 / 255, 1.0, 10),
        (1 / 255, 1.0, 100),
        (0.5, 1.0, 1),
        (0.7, 1.0, 1),
        (0.5, 10.0, 10),
        (0, 1, 1),
    ],
)
def test_the_amplification_is_the_largest_that_does_not_saturate(change, width, factor):
    clean = np.zeros((2, 1, 4, 4), np.float32)
    attacked = clean.copy()
    attacked[1, 0, 2, 2] = -change
    assert pictures.amplification(clean, attacked, width) == factor


def test_no_change_is_mid_gray_and_changes_are_amplified():
    clean = np.full((1, 2, 2), 0.5, np.float32)
    attacked = clean.copy()
    attacked[0, 0, 0] += 0.02
    attacked[0, 1, 1] -= 0.02
    shown = decode(pictures.difference(clean, attacked, 1.0, 10))
    assert shown.tolist() == [[round(0.7 * 255), 128], [128, round(0.3 * 255)]]


def test_large_pictures_are_thinned_without_making_a_change_look_smaller():
    rng = np.random.default_rng(0)
    clean = np.zeros((3, 300, 200), np.float32)
    attacked = (0.1 * np.sign(rng.normal(size=clean.shape))).astype(np.float32)
    shown = decode(pictures.difference(clean, attacked, 1.0, 5))
    assert shown.shape == (100, 67, 3)
    assert set(np.unique(shown)) == {0, 255}


def test_what_is_a_picture():
    assert pictures.is_picture((3, 32, 32))
    assert not pictures.is_picture((20,))
    assert not pictures.is_picture((1, 1, 20))
