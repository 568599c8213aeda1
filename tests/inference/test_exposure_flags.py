from __future__ import annotations

import numpy as np
import pytest
import torch

from casemate.data.domain import Domain
from casemate.evidence import Severity
from casemate.inference.exposure_flags import exposure_flags
from casemate.inference.norms import distance
from casemate.training.attacks.blended import Blend

BYTES = Domain(shape=(1, 4, 4), step=1 / 255)
FLOATS = Domain(shape=(1, 4, 4))
WIDE = Domain(shape=(1, 4, 4), low=-2.0, high=2.0)
FEATURES = Domain(shape=(16,))


def table(*, right=300, n=300, linf=None):
    """Return rows of three classes, of which the reference reads the first `right`."""
    label = np.arange(n) % 3
    read = np.where(np.arange(n) < right, label, (label + 1) % 3)
    rows = {
        "label": label,
        "reference_label": read,
        "clean_label": label,
        "eligible": (read == label) & (label != 0),
        "success": np.zeros(n, dtype=bool),
    }
    if linf is not None:
        rows["linf"] = np.broadcast_to(np.float32(linf), (n,))
    return rows


def flags(rows, domain=BYTES, *, goal=0, attacked=True):
    found = exposure_flags(rows, domain, classes=3, attacked=attacked, goal=goal)
    return [(f.id, f.severity) for f in found]


@pytest.mark.parametrize(("right", "weak"), [(0, True), (100, True), (115, True), (120, False)])
def test_a_reference_has_to_be_clearly_better_than_the_most_frequent_class(right, weak):
    """Of 300 samples a third are of each class; the interval of 115 is 33.0 to 43.9 %."""
    found = flags(table(right=right), attacked=False)
    assert found == ([("weak-reference", Severity.FAILURE)] if weak else [])


def test_a_weak_reference_is_told_with_its_interval():
    (flag,) = exposure_flags(table(right=115), BYTES, classes=3, attacked=False, goal=None)
    assert "38.3 % of 300 samples (interval 33.0 to 43.9 %)" in flag.message
    assert "the most frequent class, 33.3 %" in flag.message


def test_one_class_alone_cannot_be_guessed_better():
    rows = table()
    rows |= {"label": np.zeros(300, dtype=int), "reference_label": np.zeros(300, dtype=int)}
    assert flags(rows, attacked=False) == []


@pytest.mark.parametrize(
    ("domain", "linf", "severity"),
    [
        (BYTES, 0.0, Severity.FAILURE),
        (BYTES, 1e-7, Severity.FAILURE),
        (BYTES, 0.99 / 510, Severity.FAILURE),
        (BYTES, 1 / 510, None),
        (BYTES, 1 / 255, None),
        # floats keep what is too faint for 8 bits
        (FLOATS, 0.0, Severity.FAILURE),
        (FLOATS, 1e-7, Severity.WARNING),
        (FLOATS, 0.99 / 510, Severity.WARNING),
        (FLOATS, 1 / 510, None),
        (WIDE, 3.9 / 510, Severity.WARNING),
        (WIDE, 4 / 510, None),
        # features have no bits to be seen in
        (FEATURES, 0.0, Severity.FAILURE),
        (FEATURES, 1e-7, None),
    ],
)  # fmt: skip
def test_a_trigger_has_to_survive_eight_bits(domain, linf, severity):
    found = flags(table(linf=linf), domain)
    assert found == ([] if severity is None else [("trigger-without-effect", severity)])


def test_a_trigger_that_shows_on_one_input_has_an_effect():
    rows = table(linf=0.0)
    linf = np.zeros(300)
    linf[0] = 1.0  # of the target, so that it does not count
    assert flags(rows | {"linf": linf}) == [("trigger-without-effect", Severity.FAILURE)]
    linf[1] = 1.0
    assert flags(rows | {"linf": linf}) == []


@pytest.mark.parametrize(("alpha", "lost"), [(0.001, True), (0.01, False)])
def test_a_blend_of_a_thousandth_is_lost(alpha, lost):
    x = torch.randint(0, 256, (300, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
    shown = Blend(target=0, alpha=alpha)(x, BYTES)
    found = flags(table() | {"linf": distance(shown, x, "linf").numpy()})
    assert found == ([("trigger-without-effect", Severity.FAILURE)] if lost else [])


def test_without_a_trigger_none_is_missed():
    assert flags(table(), goal=None) == []
