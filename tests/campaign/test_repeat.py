from __future__ import annotations

from dataclasses import replace

import numpy as np

from casemate.campaign.repeat import differences
from casemate.evidence import Evidence, HealthFlag, Severity
from casemate.stats import rate

BEFORE = Evidence(
    measurements=(rate("attack success rate", 3, 10), rate("clean accuracy", 9, 10)),
    spent={"attack forward": 10},
    samples={"linf": np.array([0.1, np.nan]), "row": np.arange(2)},
)


def test_the_same_evidence_has_no_differences():
    again = replace(BEFORE, samples={k: v.copy() for k, v in BEFORE.samples.items()})
    assert differences(BEFORE, again) == ()


def test_each_thing_that_differs_is_named():
    flag = HealthFlag(id="late", severity=Severity.WARNING, message="m")
    after = replace(
        BEFORE,
        measurements=(rate("attack success rate", 4, 10),),
        flags=(flag,),
        samples={"linf": np.array([0.1, 0.2]), "extra": np.zeros(2)},
    )
    found = differences(BEFORE, after)
    assert found[0] == "attack success rate was 0.3 (n = 10) and is 0.4 (n = 10)"
    assert found[1] == "clean accuracy was 0.9 (n = 10) and is not measured"
    assert found[2].startswith("flags were none and are (HealthFlag(id='late'")
    assert found[3:] == ("samples differ in linf, row, extra",)


def test_a_class_that_is_read_otherwise_is_named():
    before = replace(BEFORE, by_class=(rate("clean accuracy of class 0", 5, 10),))
    after = replace(BEFORE, by_class=(rate("clean accuracy of class 0", 4, 10),))
    (found,) = differences(before, after)
    assert found == "clean accuracy of class 0 was 0.5 (n = 10) and is 0.4 (n = 10)"


def test_one_bit_of_one_sample_is_a_difference():
    samples = {k: v.copy() for k, v in BEFORE.samples.items()}
    samples["linf"][0] = np.nextafter(0.1, 1)
    assert differences(BEFORE, replace(BEFORE, samples=samples)) == ("samples differ in linf",)


def test_a_zero_that_changes_its_sign_is_a_difference():
    zero = replace(BEFORE, samples={"x": np.array([0.0])})
    minus = replace(BEFORE, samples={"x": np.array([-0.0])})
    assert differences(zero, minus) == ("samples differ in x",)


def test_a_note_that_differs_is_named():
    one, other = (
        replace(BEFORE, notes={"layer": "fc3", **more}) for more in ({"found": 1}, {"score": 2.0})
    )
    assert differences(one, other) == ("what the defense noted differs in found, score",)
