from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from poisoned_trials import collapsing, count, flips, measuring, poisoned, record, rows

from casemate.report import html, json
from casemate.report.frontier import frontiers
from casemate.report.scatter import MOST_ATTACKS, MOST_MARKS, scatter


def backdoor(number, name, n, hits, *, linf=0.5, ssim=0.8, seed=0, **more):
    made = poisoned(number, count(name, n), hits=hits, seed=seed, share=(n, 60_000), **more)
    return measuring(made, linf=linf, ssim=ssim)


def best(*trials):
    """Return the first trials of the settings on the only frontier."""
    (found,) = frontiers(rows(*trials))
    return [s.row.first.number for s in found.best]


def test_what_another_setting_beats_is_off_the_frontier():
    known = (
        backdoor(1, "a", 60, 90),
        backdoor(2, "b", 60, 80),  # less success for the same
        backdoor(3, "c", 180, 90),  # more poisons for the same
        backdoor(4, "d", 60, 90, right=940),  # costs more accuracy
        backdoor(5, "e", 60, 90, linf=0.6),  # larger
        backdoor(6, "f", 60, 90, ssim=0.7),  # less similar
    )
    assert best(*known) == [1]


@pytest.mark.parametrize(
    "other",
    [
        backdoor(2, "b", 180, 91),
        backdoor(2, "b", 59, 10),
        backdoor(2, "b", 180, 10, right=955),
        backdoor(2, "b", 180, 10, linf=0.4),
        backdoor(2, "b", 180, 10, ssim=0.9),
    ],
    ids=["success", "poisons", "accuracy", "linf", "ssim"],
)
def test_one_advantage_is_enough_to_stay(other):
    assert sorted(best(backdoor(1, "a", 60, 90), other)) == [1, 2]


def test_dominance_needs_no_single_rival_in_all_figures_but_one_in_each():
    # 3 is dominated by 1 alone; 2 and 4 trade success for poisons
    found = best(
        backdoor(1, "a", 60, 90),
        backdoor(2, "b", 10, 40),
        backdoor(3, "c", 60, 40),
        backdoor(4, "d", 600, 99),
    )
    assert found == [2, 1, 4]


def test_ties_stay_together():
    assert best(backdoor(1, "a", 60, 90), backdoor(2, "b", 60, 90)) == [1, 2]


def test_a_gain_of_accuracy_is_no_drop():
    assert best(backdoor(1, "a", 60, 90, right=960), backdoor(2, "b", 60, 80, right=970)) == [1]


def test_less_than_a_thousandth_is_no_difference():
    near = backdoor(2, "b", 60, 90, linf=0.4996)
    assert best(backdoor(1, "a", 60, 91), near) == [1]
    assert best(backdoor(1, "a", 60, 91), backdoor(2, "b", 60, 90, linf=0.499)) == [1, 2]


def test_seeds_are_averaged_before_they_are_compared():
    found = frontiers(
        rows(
            backdoor(1, "a", 60, 100, seed=0),
            backdoor(2, "a", 60, 40, seed=1),
            backdoor(3, "b", 60, 71, seed=0),
            backdoor(4, "b", 60, 71, seed=1),
        )
    )
    (a, b) = sorted(found[0].settings, key=lambda s: s.row.first.number)
    assert (a.success.value, b.success.value) == pytest.approx((0.7, 0.71))
    assert (a.best, b.best) == (False, True)
    assert (a.success.low, a.success.high) == (0, 1)  # Student's interval, cut


def test_who_only_relabels_shows_nothing_and_who_is_not_measured_everything():
    relabeled = poisoned(1, count("label-flips", 60, source=1), hits=10, share=(60, 60_000))
    relabeled = measuring(relabeled, spent={"relabeled samples": 60})
    clean_label = measuring(
        poisoned(2, count("gradient-matching", 60), hits=90, share=(60, 60_000)),
        spent={"relabeled samples": 0},
    )
    (found,) = frontiers(rows(relabeled, clean_label, backdoor(3, "a", 60, 90)))
    assert {s.row.first.attack: (s.shows, s.best) for s in found.settings} == {
        "label-flips": ("labels", True),
        "gradient-matching": ("unknown", False),
        "a": ("trigger", True),
    }
    # with more success it stays, and beats nothing that is seen less
    more = measuring(poisoned(4, count("feature-collision", 10), hits=99, share=(10, 60_000)))
    assert sorted(best(more, backdoor(3, "a", 60, 90))) == [3, 4]


def test_only_undefended_attackers_of_one_class_are_points():
    (found,) = frontiers(
        rows(
            poisoned(1, None, share=None),
            backdoor(2, "a", 60, 90),
            backdoor(3, "a", 60, 99, defense={"name": "x"}),
            poisoned(4, flips(40.0), share=(24_000, 60_000)),
            replace(backdoor(5, "b", 10, 1), status="failed", evidence=None, error="broken"),
        )
    )
    assert [s.row.first.number for s in found.settings] == [2]
    assert [r.first.number for r in found.untargeted] == [4]
    assert [r.first.number for r in found.missing] == [5]
    assert frontiers(rows(poisoned(1, flips(40.0)), poisoned(2, None, share=None))) == ()


def test_a_setting_whose_victims_all_collapsed_is_no_point():
    made = (
        collapsing(backdoor(1, "a", 10, 100, seed=0), 100),
        collapsing(backdoor(2, "a", 10, 100, seed=1), 99),
        backdoor(3, "b", 60, 80, seed=0),
        collapsing(backdoor(4, "b", 60, 90, seed=1), 70),
    )
    (found,) = frontiers(rows(*made))
    assert [s.row.first.number for s in found.settings] == [3]
    assert [row.first.number for row in found.collapsed] == [1]
    assert found.settings[0].costs[0] == pytest.approx(1 - (0.8 + 0.2) / 2)
    text = html.page(record(*made))
    section = text[text.index('id="frontier"') : text.index('id="fewest-title"')]
    assert "1 setting is left out because all victims collapsed" in section
    assert "collapsed</a> in 1 of 2 seeds" in section
    (document,) = json.document(record(*made))["frontier"]
    assert (document["collapsed"], document["left_out"]) == ([[1, 2]], [])
    # where nothing else is left the page says so, and has no picture
    text = html.page(record(*made[:2]))
    assert "all victims collapsed" in text
    assert "Settings on the frontier" not in text


def test_a_monitor_makes_no_second_point():
    plain = backdoor(1, "a", 60, 90)
    watched = replace(plain, number=2, settings={**plain.settings, "monitor": {"name": "strip"}})
    (found,) = frontiers(rows(plain, watched))
    assert len(found.settings) == 1
    failed = replace(plain, status="failed", evidence=None, error="broken")
    (found,) = frontiers(rows(failed, watched))
    assert [s.row.first.number for s in found.settings] == [2]


def test_other_systems_have_a_frontier_of_their_own():
    weak = backdoor(1, "a", 60, 10)
    other = backdoor(2, "b", 60, 90)
    model = {"architecture": "lenet", "recipe": {"epochs": 10}}
    other = replace(other, settings={**other.settings, "model": model})
    found = frontiers(rows(weak, other))
    assert [f.system for f in found] == ["architecture vgg", "architecture lenet"]
    assert all(s.best for f in found for s in f.settings)


def test_the_picture_has_a_mark_a_setting_and_says_what_is_on_the_frontier():
    (found,) = frontiers(
        rows(backdoor(1, "a", 60, 90), backdoor(2, "<b>", 600, 95), backdoor(3, "c", 600, 50))
    )
    drawn = str(scatter(found))
    root = ET.fromstring(drawn)  # noqa: S314 - our own figure, which must be well formed
    label = root.get("aria-label")
    assert "3 settings" in label
    assert re.search(r"a: 90.0.% with 60; <b>: 95.0.% with 600$", label)
    assert "<b>" not in drawn
    texts = [e.text for e in root.iter("text")]
    assert {"a", "<b>", "c", "60", "600", "100 %", "poisoned training samples"} <= set(texts)


@pytest.mark.parametrize("attacks", [1, MOST_ATTACKS, MOST_ATTACKS + 3])
def test_many_attacks_share_a_mark(attacks):
    (found,) = frontiers(
        rows(*(backdoor(i + 1, f"attack {i}", 10 + i, 90 - i) for i in range(attacks)))
    )
    assert ("other attacks" in str(scatter(found))) == (attacks > MOST_ATTACKS)


def test_a_crowd_is_thinned_and_the_frontier_stays():
    crowd = [backdoor(i + 2, "a", 61 + i, 50) for i in range(MOST_MARKS)]
    (found,) = frontiers(rows(backdoor(1, "b", 60, 90), *crowd))
    label = ET.fromstring(str(scatter(found))).get("aria-label")  # noqa: S314 - as above
    assert f"{MOST_MARKS} settings" in label
    assert label.endswith("with 60")


def test_the_page_says_how_many_systems_it_shows():
    made = [backdoor(i + 1, "a", 60, 90) for i in range(62)]
    made = [
        replace(t, settings={**t.settings, "model": {"architecture": f"a{t.number}"}}) for t in made
    ]
    assert "The first 60 of 62 systems are shown." in html.page(record(*made))


def test_the_page_shows_table_and_picture():
    bad = backdoor(1, "<i>a</i>", 60, 90)
    lost = replace(backdoor(3, "b", 10, 1), status="failed", evidence=None, error="broken")
    text = html.page(record(bad, backdoor(2, "c", 180, 90), poisoned(4, flips(40.0)), lost))
    section = text[text.index('id="frontier"') : text.index('id="trials"')]
    assert "<i>a</i>" not in section
    assert "&lt;i&gt;a&lt;/i&gt;" in section
    assert 'role="img"' in section
    assert "1 of 2 settings on the frontier." in section
    assert "(failed)" in section
    assert "1 setting of attackers who want any error is not held against these" in section


def test_the_document_has_the_points(tmp_path):
    made = record(backdoor(1, "a", 60, 90), backdoor(2, "b", 180, 90), poisoned(3, flips(40.0)))
    json.write(made, tmp_path / "r.json")
    (found,) = json.document(made)["frontier"]
    assert [(s["trials"], s["poisoned"], s["on_the_frontier"]) for s in found["settings"]] == [
        ([1], 60, True),
        ([2], 180, False),
    ]
    assert found["settings"][0]["linf"]["value"] == pytest.approx(0.5)
    assert (found["left_out"], found["without_a_goal"]) == ([], [[3]])
