from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_demo import CLASSES, demo_record, evidence, trial

from casemate.report import html
from casemate.report.facts import facts_of
from casemate.report.gallery import gallery

BASE = evidence(0.5, epsilon=0.1, source=4, goal=2, n=30, clean_accuracy=0.8)


def shown(found, goal=(4, 2)):
    record = replace(
        demo_record(), trials=(trial(1, {"name": "pgd"}, goal=goal, evidence=found),), findings=()
    )
    return gallery(facts_of(record)[0])


def at(*positions):
    picture = np.zeros((len(positions), 1, 4, 4), np.float32)
    examples = {
        "position": np.array(positions),
        "clean": picture,
        "attacked": picture + 0.25,
        "bounds": np.array([0, 1], np.float32),
    }
    return replace(BASE, examples=examples)


def test_examples_carry_the_figures_of_their_rows():
    fooled = int(np.flatnonzero(BASE.samples["success"])[0])
    (example,) = shown(at(fooled)).examples
    columns = BASE.samples
    assert example.row == columns["row"][fooled]
    assert example.clean_label == CLASSES[4]
    assert example.attacked_label == CLASSES[2]
    assert example.figures["l2"] == pytest.approx(columns["l2"][fooled])
    assert example.figures["attacked_goal_confidence"] == pytest.approx(
        columns["attacked_goal_confidence"][fooled]
    )
    assert example.outcome == "fooled"


def test_the_fooled_come_first_and_all_say_what_became_of_them():
    columns = BASE.samples
    wrong = int(np.flatnonzero(~columns["eligible"])[0])
    held = int(np.flatnonzero(columns["eligible"] & ~columns["success"])[0])
    fooled = int(np.flatnonzero(columns["success"])[0])
    found = shown(at(wrong, held, fooled))
    assert [e.outcome for e in found.examples] == ["fooled", "wrong before the attack", "held"]
    assert found.factor == 2


def test_features_are_shown_as_numbers():
    examples = {
        "position": np.array([0]),
        "clean": np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], np.float32),
        "attacked": np.array([[0.0, 1.5, 2.0, 3.1, 4.0, 3.0, 6.0]], np.float32),
        "bounds": np.array([0, 10], np.float32),
    }
    (example,) = shown(replace(BASE, examples=examples)).examples
    assert not example.is_picture
    assert [(c.feature, c.clean) for c in example.changes[:3]] == [(5, 5.0), (1, 1.0), (3, 3.0)]


def test_without_examples_there_is_no_gallery():
    assert shown(replace(BASE, examples={})) is None


def test_a_sample_of_an_attack_on_training_names_its_true_class():
    """There is no confidence in the true class of the input with the trigger."""
    fooled = np.flatnonzero(BASE.samples["success"])[:2]
    kept = {k: v.copy() for k, v in BASE.samples.items() if k != "attacked_true_confidence"}
    del kept["clean_goal_confidence"]
    kept["clean_label"][fooled[0]] = 2  # read as the target without the trigger
    found = replace(at(*fooled), samples=kept)
    assert [e.already for e in shown(found).examples] == [True, False]
    made = trial(1, {"name": "pgd"}, goal=(4, 2), evidence=found)
    text = html.page(replace(demo_record(), trials=(made,), findings=()))
    assert text.count(f"<dt>true class</dt><dd><bdi>{CLASSES[4]}</bdi>") == 2
    assert text.count(f"<dt>target</dt><dd><bdi>{CLASSES[2]}</bdi>") == 2
    assert text.count("<dd>fooled, and without the trigger as well</dd>") == 1
