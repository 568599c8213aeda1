from __future__ import annotations

import html as stdlib_html
import json as stdlib_json
from dataclasses import replace

import pytest
from hostile import HOSTILE
from poisoned_trials import badnets, flips, noise, poisoned, reading, record
from report_demo import DIGEST

from casemate.report import html, json
from casemate.report.class_accuracy import by_class, class_tables
from casemate.report.facts import facts_of
from casemate.report.formats import NOTHING
from casemate.report.poisonings import poisonings
from casemate.stats import mean, wilson

NAMES = tuple(f"class {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(43))


def named(*trials, names):
    """Return a record whose one model has these classes."""
    made = record(*trials)
    return replace(made, models=({**made.models[0], "digest": DIGEST, "classes": list(names)},))


def rows(*trials, names=("one", "two", "three")):
    return poisonings(facts_of(named(*trials, names=names)))


def seeds(attack, *right, first=1, **more):
    """Return one trial a seed, each with what it reads right of each class."""
    return [
        reading(poisoned(first + s, attack, seed=s, **more), *of_seed)
        for s, of_seed in enumerate(right)
    ]


def test_the_accuracy_of_a_class_is_its_mean_over_the_seeds_with_students_interval():
    (row,) = rows(*seeds(flips(40.0), (90, 50, None), (80, 50, None), (100, 50, None)))
    first, second, third = by_class(row)
    wanted = mean("clean accuracy of class 0", [0.9, 0.8, 1.0], "1")
    assert (first.value, first.n, first.method) == (pytest.approx(0.9), 3, "t")
    assert first.low == pytest.approx(wanted.low)
    assert wanted.high > 1
    assert first.high == 1  # a share ends there
    # seeds that agree leave open what their samples leave open
    assert (second.value, second.low, second.high) == pytest.approx((0.5, *wilson(50, 100)))
    assert third is None


def test_of_one_seed_a_class_keeps_its_own_interval():
    (row,) = rows(*seeds(flips(40.0), (90, 50, 70)))
    assert [(m.low, m.high, m.n) for m in by_class(row)] == [
        (*wilson(k, 100), 100) for k in (90, 50, 70)
    ]


def test_a_seed_without_evidence_counts_for_none():
    done, missing = seeds(flips(40.0), (90, 50, 70), (10, 10, 10))
    missing = replace(missing, status="failed", evidence=None, error="broken")
    (row,) = rows(done, missing)
    assert [m.value for m in by_class(row)] == [0.9, 0.5, 0.7]
    (only_missing,) = rows(missing)
    assert by_class(only_missing) == ()
    assert class_tables([only_missing]) == ()


def grid():
    """Return nobody, and noise at two shares and two intensities; the last class suffers."""
    trials = seeds(None, (99, 98, 97), share=None)
    for i, (share, intensity, last) in enumerate(
        ((100.0, 0.5, 60), (10.0, 1.0, 80), (100.0, 1.0, 20), (10.0, 0.5, 95))
    ):
        made = seeds(noise(share, intensity), (96, 90, last), first=10 + i)
        trials += [
            replace(
                t,
                evidence=replace(
                    t.evidence,
                    spent={"poisoned samples": int(600 * share), "training samples": 60_000},
                ),
            )
            for t in made
        ]
    return trials


def test_a_grid_is_one_table_with_nobody_first_and_the_worst_class_on_top():
    (table,) = class_tables(rows(*grid()))
    assert (table.attack, table.defense, table.system) == ("input-noise", None, "")
    assert [c.row.first.budget for c in table.columns] == [
        NOTHING,
        "10 %, intensity 0.5",
        "100 %, intensity 0.5",
        "10 %, intensity 1",
        "100 %, intensity 1",
    ]
    assert [r.name for r in table.rows] == ["three", "two", "one"]
    assert [m.value for m in table.rows[0].cells] == [0.97, 0.95, 0.6, 0.8, 0.2]
    row, column, found = table.worst
    assert (row.name, column.row.first.budget) == ("three", "100 %, intensity 1")
    assert found.value == 0.2


def test_the_order_of_classes_is_that_under_attack_and_those_without_samples_are_last():
    nobody = seeds(None, (10, 99, None), share=None)  # the first class is hard by itself
    attacked = seeds(flips(40.0), (90, 50, None), first=2)
    (table,) = class_tables(rows(*nobody, *attacked))
    assert [r.name for r in table.rows] == ["two", "one", "three"]
    assert table.rows[-1].cells == (None, None)
    assert table.worst[2].value == 0.5


def test_attacks_and_defenses_have_tables_of_their_own_and_undefended_ones_come_first():
    defense = {"name": "spectral-signatures"}
    trials = [
        *seeds(badnets(), (9, 9, 9), defense=defense),
        *seeds(None, (8, 8, 8), first=2, defense=defense, share=None),
        *seeds(badnets(), (7, 7, 7), first=3),
        *seeds(flips(10.0), (6, 6, 6), first=4),
    ]
    found = class_tables(rows(*trials))
    assert [(t.attack, t.defense) for t in found] == [
        ("badnets", None),
        ("label-flips", None),
        ("badnets", "spectral-signatures"),
    ]
    values = [[m.value for m in t.rows[0].cells] for t in found]
    assert values == [[0.07], [0.06], [0.08, 0.09]]


def test_settings_of_one_attack_say_how_they_differ():
    other = {**flips(40.0), "kind": "pair"}
    (table,) = class_tables(rows(*seeds(flips(40.0), (9, 9, 9)), *seeds(other, (8, 8, 8), first=2)))
    assert [c.words for c in table.columns] == ["kind uniform", "kind pair"]


def test_many_settings_are_cut_into_tables_that_can_be_read():
    trials = [
        t
        for i in range(30)
        for t in seeds(noise(1.0 + i, 0.5), (9, 9, 9), first=1 + i, share=(600 + i, 60_000))
    ]
    found = class_tables(rows(*trials))
    assert [len(t.columns) for t in found] == [12, 12, 6]
    shown = [c.row.poisoned for t in found for c in t.columns]
    assert shown == [600 + i for i in range(30)]
    other = seeds({**noise(1.0, 0.5), "kind": "uniform"}, (9, 9, 9), first=40)
    found = class_tables(rows(*trials[:12], *other))
    # each table says which kind it is, though there is only one in it
    assert [{c.words for c in t.columns} for t in found] == [{"kind gaussian"}, {"kind uniform"}]


def test_evidence_without_classes_makes_no_table():
    assert class_tables(rows(poisoned(1, badnets()))) == ()
    assert 'id="class-accuracy"' not in html.page(record(poisoned(1, badnets())))
    (block,) = json.document(record(poisoned(1, badnets())))["sensitivity"]
    assert block["settings"][0]["by_class"] == []


@pytest.mark.parametrize("classes", [2, 43])
def test_the_page_has_a_row_for_each_class(read, classes):
    right = [90 - i for i in range(classes)]
    trials = [
        *seeds(None, [99] * classes, share=None),
        *seeds(flips(40.0), right, right, first=2),
    ]
    text = html.page(named(*trials, names=NAMES[:classes]))
    page = read(text)
    assert page.errors == []
    section = text[text.index('<section id="class-accuracy"') :].partition("</section>")[0]
    shown = [n for n in NAMES if f'<th scope="row"><bdi>{n}</bdi></th>' in section]
    assert shown == list(NAMES[:classes])
    lowest = right[-1]
    assert section.index(f"<bdi>{NAMES[classes - 1]}</bdi>") < section.index(
        f"<bdi>{NAMES[0]}</bdi>"
    )
    assert f"{lowest}.0\u00a0%<br>" in section
    assert f'<td class="num heat h{round((100 - lowest) / 10)}">' in section
    assert '<a href="#class-accuracy">' in text
    assert "classes that lose most" not in section


def test_more_classes_than_can_be_read_are_cut_with_a_note():
    right = [90] * 119 + [5]
    names = [f"class {i}" for i in range(120)]
    made = named(*seeds(flips(40.0), right), names=names)
    section = (
        html.page(made).partition('<section id="class-accuracy"')[2].partition("</section>")[0]
    )
    assert "The 50 classes that lose most of 120 are shown" in section
    assert section.count('<th scope="row">') == 50
    assert section.index("<bdi>class 119</bdi>") < section.index("<bdi>class 0</bdi>")
    (block,) = json.document(made)["sensitivity"]
    assert len(block["settings"][0]["by_class"]) == 120


def test_hostile_class_names_are_text(read):
    made = named(*seeds(flips(40.0), range(8)), names=HOSTILE)
    text = html.page(made)
    page = read(text)
    assert page.errors == []
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert not page.all("img")
    section = text.partition('<section id="class-accuracy"')[2].partition("</section>")[0]
    assert stdlib_html.escape(HOSTILE[0], quote=False)[:4] in section
    assert "(10,000 characters)" in section
    assert "⟨U+202E⟩" in section
    assert "\u202e" not in section
    found = json.document(made)["sensitivity"][0]["settings"][0]["by_class"]
    assert [c["class"] for c in found] == list(HOSTILE)


def test_the_document_has_what_each_setting_does(tmp_path):
    made = named(*grid(), names=("one", "two", "three"))
    text = json.write(made, tmp_path / "r.json").read_text("ascii")
    (block,) = stdlib_json.loads(text)["sensitivity"]
    assert block["system"] == ""
    nobody, first, *_ = block["settings"]
    assert (nobody["attack"], nobody["poisoned"], nobody["intensity"]) == ("no attack", None, None)
    assert (first["percent"], first["intensity"], first["trials"]) == (100.0, 0.5, [10])
    assert (first["accuracy"]["value"], first["top_5_accuracy"]) == (0.95, None)
    assert [(c["label"], c["class"], c["accuracy"]["value"]) for c in first["by_class"]] == [
        (0, "one", 0.96),
        (1, "two", 0.9),
        (2, "three", 0.6),
    ]
    (trial,) = (t for t in stdlib_json.loads(text)["trials"] if t["number"] == 10)
    assert [(m["value"], m["n"]) for m in trial["by_class"]] == [
        (0.96, 100),
        (0.9, 100),
        (0.6, 100),
    ]
    # on the page a trial's list of measurements is not flooded
    assert "clean accuracy of class" not in html.page(made)
