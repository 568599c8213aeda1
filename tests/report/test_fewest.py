from __future__ import annotations

from dataclasses import replace

import pytest
from poisoned_trials import (
    badnets,
    collapsing,
    count,
    flips,
    measuring,
    poisoned,
    record,
    rows,
)

from casemate.report import html, json
from casemate.report.fewest import fewest
from casemate.report.poisonings import ADDED


def tried(*pairs, first=1, name="badnets", **more):
    """Return trials of one attack: (poisons, successes of 100 of one seed or of each)."""
    found = []
    for n, hits in pairs:
        for seed, each in enumerate(hits if isinstance(hits, tuple) else (hits,)):
            number = first + len(found)
            found.append(
                poisoned(number, count(name, n, **more), hits=each, seed=seed, share=(n, 60_000))
            )
    return found


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (((60, 20), (180, 80), (600, 99)), "between 60 and 180"),
        (((600, 99), (180, 80), (60, 20)), "between 60 and 180"),
        (((10, 2), (60, 20), (180, 80), (600, 99)), "between 60 and 180"),
        (((10, 80), (60, 90)), "at most 10"),
        (((10, 2), (600, 49)), "not reached with up to 600"),
        (((10, 2), (6000, 50)), "between 10 and 6,000"),
        # by chance a smaller number may do better; the fewest that does is the answer
        (((10, 2), (20, 60), (60, 40), (180, 90)), "between 10 and 20"),
        # over seeds it is the mean
        (((60, (20, 70)), (180, (0, 100))), "between 60 and 180"),
        (((60, (20, 70)), (180, (0, 99))), "not reached with up to 180"),
    ],
)
def test_the_fewest_that_suffice_and_the_next_smaller(pairs, words):
    (found,) = fewest(rows(*tried(*pairs)))
    assert found.words == words
    assert found.counts == tuple(sorted(n for n, _ in pairs))


def test_shares_are_counted_as_the_samples_that_they_made():
    trials = [
        poisoned(1, badnets(0.1), hits=20, share=(60, 60_000)),
        poisoned(2, badnets(0.3), hits=80, share=(180, 60_000)),
    ]
    (found,) = fewest(rows(*trials))
    assert found.words == "between 60 and 180"


def test_another_parameter_is_another_attack():
    found = fewest(
        rows(
            *tried((60, 20), (180, 80), size=3),
            *tried((60, 90), size=5, first=3),
            *tried((600, 10), name="blended", first=4),
        )
    )
    assert [f.words for f in found] == [
        "between 60 and 180",
        "at most 60",
        "not reached with up to 600",
    ]


def test_a_budget_without_a_figure_is_counted_and_no_bound():
    low, middle, high = tried((60, 20), (180, 40), (600, 80))
    middle = replace(middle, status="failed", evidence=None, error="broken")
    (found,) = fewest(rows(low, middle, high))
    assert (found.words, found.missing) == ("between 60 and 600", 1)


def test_defended_and_untargeted_attacks_and_those_without_figures_have_no_row():
    failed = replace(poisoned(1, count("a", 60)), status="failed", evidence=None)
    defended = poisoned(2, count("b", 60), defense={"name": "x"})
    assert fewest(rows(failed, defended, poisoned(3, flips(40.0)))) == ()


def test_a_trigger_that_needs_no_poison_is_called_so():
    made = [measuring(t, null=55) for t in tried((60, 20), (180, 80))]
    assert fewest(rows(*made))[0].words == "none: the trigger alone suffices"


@pytest.mark.parametrize(("null", "words"), [(30, "at most 60"), (31, "not reached with up to 60")])
def test_what_the_trigger_does_alone_is_not_the_poisons(null, words):
    assert fewest(rows(*(measuring(t, null=null) for t in tried((60, 80)))))[0].words == words
    # two seeds, each held against its own reference: (90 - 40 + 70 - null) / 2 of 100
    first, second = tried((60, (90, 70)))
    added = rows(measuring(first, null=40), measuring(second, null=null))[0].figures[ADDED]
    assert added.value == pytest.approx((0.5 + 0.7 - null / 100) / 2)
    assert added.n == 2


def test_a_victim_that_answers_the_target_anyway_needs_no_poison_for_it():
    few, more = tried((15, 81), (60, 90))
    (found,) = fewest(rows(collapsing(few, 80), measuring(more, null=1)))
    assert found.words == "between 15 and 60"
    assert found.below.figures[ADDED].value == pytest.approx(0.01)
    # one seed of two
    first, second = tried((60, (95, 85)))
    (found,) = fewest(rows(measuring(first, null=5), collapsing(measuring(second, null=5), 80)))
    assert found.words == "not reached with up to 60"
    assert found.tried[0].figures[ADDED].value == pytest.approx((0.9 + 0.05) / 2)
    assert found.tried[0].collapsed == 1


def test_page_and_document_say_who_collapsed():
    first, second = tried((60, (95, 85)))
    made = record(first, collapsing(second, 80))
    text = html.page(made)
    section = text[text.index('id="fewest-title"') : text.index('id="trials"')]
    assert "collapsed</a> in 1 of 2 seeds" in section
    assert "without the trigger 80.0" in section
    (found,) = json.document(made)["fewest_poisons"]
    assert [t["collapsed"] for t in found["tried"]] == [1]


def test_page_and_document_say_it():
    made = record(*tried((60, 20), (180, 80)), *tried((60, 9), name="<u>", first=3))
    text = html.page(made)
    assert "between 60 and 180" in text
    assert "not reached with up to 60" in text
    assert "<u>" not in text
    first, second = json.document(made)["fewest_poisons"]
    assert (first["reached"]["poisoned"], first["below"]["poisoned"]) == (180, 60)
    assert first["reached"]["success"]["value"] == pytest.approx(0.8)
    assert (second["reached"], second["below"]) == (None, None)
    assert [t["trials"] for t in second["tried"]] == [[3]]
