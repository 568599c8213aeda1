"""What an attack on training did, on models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from backdoored import BACKDOOR, Reads, exposed, mark, samples

from casemate.evidence import MEASURES
from casemate.inference.exposure import Exposure


def test_a_backdoor_is_invisible_in_normal_use_and_not_where_it_is_used():
    evidence = exposed(BACKDOOR)
    assert evidence["attack success rate"].value == 1
    assert evidence["clean accuracy drop"].value == 0
    for name in ("accuracy", "confidence", "classes"):
        assert evidence[f"detection by {name}"] != evidence[f"detection by {name} with triggers"]
        normal = evidence[f"detection by {name}"]
        assert normal.value == evidence[f"false alarms by {name}"].value
    assert evidence["detection by accuracy with triggers"].value == 1
    assert {m.name for m in evidence.measurements} <= set(MEASURES)


def test_confidences_are_those_of_the_answers():
    rows = exposed(BACKDOOR).samples
    x = samples().batch(slice(None))
    for column, listens, shown in (
        ("reference_confidence", False, x),
        ("clean_confidence", True, x),
        ("attacked_confidence", True, mark(x)),
    ):
        scores = Reads(listens)(shown).detach()
        np.testing.assert_allclose(rows[column], scores.softmax(1).amax(1), rtol=1e-5)


def test_without_a_trigger_only_normal_use_is_watched():
    names = {m.name for m in exposed(Exposure(attacked=False), listens=False).measurements}
    assert {"false alarms by classes", "detection by classes"} <= names
    assert not any("with triggers" in name for name in names)


@pytest.mark.parametrize("batch_size", [7, 400])
def test_the_seed_decides_the_windows_and_the_batch_does_not(batch_size):
    evidence = exposed(BACKDOOR, seed=3, batch_size=batch_size)
    assert evidence.measurements == exposed(BACKDOOR, seed=3).measurements
    assert evidence.measurements != exposed(BACKDOOR, seed=4).measurements


def test_few_samples_are_not_watched():
    assert exposed(BACKDOOR, n=40)["detection by accuracy"].value is None
