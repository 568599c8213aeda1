from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from casemate.campaign.facts import NOT_LEARNED, with_facts
from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED, Evidence, Severity
from casemate.stats import rate

BARE = Evidence(
    measurements=(rate("clean accuracy", 9, 10),),
    flags=(),
    spent={"verifier forward": 20},
    samples={"row": np.arange(10)},
)


def facts(right, *, targeted=True, **more):
    return {
        "poisoned": 6,
        "relabeled": 5,
        "training samples": 100,
        "targeted": targeted,
        "learned": asdict(rate("poisoned samples learned", right, 6)),
        **more,
    }


@pytest.mark.parametrize(
    ("right", "targeted", "flagged"),
    [(2, True, True), (3, True, False), (6, True, False), (0, False, False)],
)
def test_poison_that_was_to_be_learned_and_was_not_is_flagged(right, targeted, flagged):
    found = with_facts(BARE, facts(right, targeted=targeted))
    assert [(f.id, f.severity) for f in found.flags] == [(NOT_LEARNED, Severity.WARNING)] * flagged
    assert found["poisoned samples learned"].value == pytest.approx(right / 6)
    assert found.spent == {
        "verifier forward": 20,
        "poisoned samples": 6,
        "relabeled samples": 5,
        "training samples": 100,
    }


def test_a_defense_brings_its_figures_and_its_costs():
    defense = {
        "measurements": [asdict(rate("recall of removal", 5, 6))],
        "notes": {"layer": "fc3"},
        "models": 4,
        "samples": 1200,
        "seconds": 2.5,
    }
    found = with_facts(BARE, facts(6, defense=defense))
    assert found["recall of removal"].value == pytest.approx(5 / 6)
    assert found["seconds of the defense"].value == 2.5
    assert found.spent["defender's models"] == 4
    assert found.spent["defender's training samples"] == 1200
    assert found.notes == {"layer": "fc3"}


def verdict(found):
    return {"notes": {"score": math.inf, "found": found}, "models": 0, "samples": 0, "seconds": 1}


@pytest.mark.parametrize(("found", "named"), [(4, 1.0), (5, 0.0), (None, 0.0)])
def test_the_verdict_on_a_backdoor_is_held_against_the_attackers_target(found, named):
    backdoored = with_facts(BARE, facts(6, defense=verdict(found)), target=4)
    assert backdoored[NAMED].value == named
    assert backdoored[FLAGGED].value == (found is not None)
    assert FALSE_FLAG not in {m.name for m in backdoored.measurements}
    assert backdoored.notes == {"score": "infinite", "found": found}
    clean = with_facts(BARE, {"defense": verdict(found)})
    assert clean[FALSE_FLAG].value == (found is not None)
    assert {FLAGGED, NAMED}.isdisjoint(m.name for m in clean.measurements)


def test_without_attack_and_defense_nothing_is_added():
    assert with_facts(BARE, {}) == BARE
