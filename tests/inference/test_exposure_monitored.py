"""What an attack on training did, on models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from backdoored import BACKDOOR, Reads, exposed, mark, samples, target

from casemate.evidence import MEASURES
from casemate.inference.exposure import Exposure, expose, scores


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


OVER = "alarms by {} over another clean model"


def test_a_control_tells_what_the_trigger_does_to_any_model():
    bare, evidence = exposed(BACKDOOR), exposed(BACKDOOR, control=False)
    for name in ("accuracy", "confidence", "classes"):
        over = evidence[OVER.format(name)]
        assert over.value == evidence[f"false alarms by {name}"].value  # it is the reference
        assert evidence[f"{over.name} with triggers"].value < 0.1
        detected = f"detection by {name} with triggers"
        assert evidence[detected] == bare[detected]
    # a control that falls for the trigger as well: then the trigger is what monitors see
    fooled = exposed(BACKDOOR, control=True)
    for name in ("accuracy", "confidence", "classes"):
        for use in ("", " with triggers"):
            assert (
                fooled[f"{OVER.format(name)}{use}"].value
                == fooled[f"detection by {name}{use}"].value
            )
    assert {m.name for m in fooled.measurements} <= set(MEASURES)


def test_what_a_control_answers_is_in_the_rows():
    rows = exposed(BACKDOOR, control=True).samples
    for kind in ("label", "confidence"):
        np.testing.assert_array_equal(rows[f"control_{kind}"], rows[f"clean_{kind}"])
        np.testing.assert_array_equal(rows[f"control_attacked_{kind}"], rows[f"attacked_{kind}"])
    normal = exposed(Exposure(attacked=False), control=False).samples
    assert {k for k in normal if k.startswith("control")} == {
        "control_label",
        "control_confidence",
    }


def test_a_control_is_asked_once_or_only_about_triggers(monkeypatch):
    data = samples()
    asked = []
    control = target(data, listens=False)
    answer = type(control).scores

    def counted(self, x):
        if self is control:
            asked.append(len(x))
        return answer(self, x)

    monkeypatch.setattr(type(control), "scores", counted)
    known = scores(target(data, listens=False), data)
    parties = (target(data, listens=True), target(data, listens=False), data)
    with_all = expose(BACKDOOR, *parties, control=control)
    assert sum(asked) == 2 * len(data)
    asked.clear()
    with_some = expose(BACKDOOR, *parties, control=control, control_before=known)
    assert sum(asked) == len(data)
    assert with_some.measurements == with_all.measurements
    assert with_some.spent == with_all.spent == {"verifier forward": 6 * len(data)}
    asked.clear()
    expose(Exposure(), *parties, control=control, control_before=known)
    assert asked == []


@pytest.mark.parametrize("batch_size", [7, 400])
def test_the_seed_decides_the_windows_and_the_batch_does_not(batch_size):
    evidence = exposed(BACKDOOR, seed=3, batch_size=batch_size)
    assert evidence.measurements == exposed(BACKDOOR, seed=3).measurements
    assert evidence.measurements != exposed(BACKDOOR, seed=4).measurements


def test_few_samples_are_not_watched():
    assert exposed(BACKDOOR, n=40)["detection by accuracy"].value is None
