from __future__ import annotations

from dataclasses import replace

import pytest
from hostile import HOSTILE
from poisoned_trials import badnets, poisoned, record
from report_demo import CLASSES

from casemate.report import html, json
from casemate.report.facts import facts_of
from casemate.report.noted import noted

CLEANSE = {"name": "neural-cleanse", "steps": 100}


def with_notes(notes, number=1, **options):
    made = poisoned(number, badnets(), defense=CLEANSE, **options)
    return replace(made, evidence=replace(made.evidence, notes=notes))


def words(notes):
    (facts,) = facts_of(record(with_notes(notes)))
    return {note.name: note.words for note in noted(facts)}


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ({"layer": "fc3"}, ("layer", "fc3")),
        ({"epsilon": 3.14159}, ("epsilon", "3.142")),
        ({"isolated": 120}, ("isolated", "120")),
        ({"found": 1}, ("class named as target", CLASSES[1])),
        ({"found": 999}, ("class named as target", "class 999")),
        ({"found": None}, ("class named as target", "none")),
        ({"flagged": [2, 0]}, ("classes flagged", f"{CLASSES[2]}, {CLASSES[0]}")),
        ({"flagged": []}, ("classes flagged", "none")),
        ({"score": "infinite"}, ("score", "infinite")),
        ({"accuracy": {"before": 0.98, "pruned": 0.9}}, ("accuracy", "before 0.98; pruned 0.9")),
        (
            {"norms": list(range(43))},
            ("norms", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 … (43 in all)"),
        ),
        (
            {"pruned": {"entries": 100, "smallest": 1, "largest": 512, "first": [5, 7]}},
            ("pruned", "5, 7 … (100 in all), from 1 to 512"),
        ),
        (
            {
                "classes": [
                    {"class": 0, "size": 40.0, "silhouette": None, "suspected": False},
                    {"class": 1, "size": 9.0, "silhouette": 0.4, "suspected": True},
                ]
            },
            ("classes", f"suspected {CLASSES[1]} (of 2)"),
        ),
    ],
    ids=str,
)
def test_notes_in_words(note, shown):
    assert words(note) == dict([shown])


def test_a_trial_without_notes_or_evidence_says_nothing():
    bare = poisoned(1, badnets())
    lost = replace(bare, number=2, status="failed", evidence=None)
    assert [noted(f) for f in facts_of(record(bare, lost))] == [(), ()]
    assert "What the defense at training noted" not in html.page(record(bare, lost))


def test_the_page_shows_notes_and_escapes_the_names_of_classes(read):
    made = record(with_notes({"found": 1, "flagged": [1, 2], HOSTILE[0]: HOSTILE[1], "n": 7}))
    names = ["a", *HOSTILE[:3], *CLASSES[4:]]
    made = replace(made, models=({**made.models[0], "classes": names},))
    found = read(html.page(made))
    assert found.errors == []
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert all(a["src"].startswith("data:image/png;base64,") for a in found.all("img"))
    block = found.words.partition("What the defense at training noted")[2]
    assert f"class named as target {HOSTILE[0]} classes flagged {HOSTILE[0]}, " in block
    assert HOSTILE[1] in block


def test_hidden_and_endless_text_in_a_note_is_tamed(read):
    made = record(with_notes({"layer": HOSTILE[3], "warning": HOSTILE[4]}))
    block = read(html.page(made)).words.partition("What the defense at training noted")[2]
    assert "layer abc⟨U+202E⟩gnp.exe⟨U+2066⟩ warning" in block
    assert "A" * 301 not in block


def test_the_document_has_the_notes_as_they_are():
    notes = {"layer": "fc3", "flagged": [1], "accuracy": {"before": 0.9}, "found": None}
    bare = poisoned(2, badnets())
    lost = replace(poisoned(3, badnets()), status="failed", evidence=None)
    document = json.document(record(with_notes(notes), bare, lost))
    assert [t["notes"] for t in document["trials"]] == [notes, {}, {}]
