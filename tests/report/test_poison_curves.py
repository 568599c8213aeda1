from __future__ import annotations

from dataclasses import replace

import pytest
from poisoned_trials import badnets, flips, measuring, noise, poisoned, record, rows

from casemate.report import html
from casemate.report.plots import draw
from casemate.report.poison_curves import poison_charts
from casemate.stats import mean, rate


def shares(*pairs):
    """BadNets at some shares, two seeds each."""
    return [
        poisoned(
            2 * i + s, badnets(100 * count / 60_000), seed=s, hits=hits + s, share=(count, 60_000)
        )
        for i, (count, hits) in enumerate(pairs)
        for s in (0, 1)
    ]


def test_one_attack_at_several_shares_is_a_curve_over_seeds():
    found = poison_charts(rows(*shares((60, 10), (600, 98), (6, 0))))
    success, accuracy = found
    assert (success.measure, accuracy.measure) == ("attack success rate", "clean accuracy")
    (curve,) = success.series
    assert curve.label == "badnets"
    assert [p.x for p in curve.points] == pytest.approx([0.01, 0.1, 1.0])
    assert [p.value for p in curve.points] == pytest.approx([0.005, 0.105, 0.985])
    assert all(0 <= p.low <= p.value <= p.high <= 1 for p in curve.points)
    assert [p.n for p in curve.points] == [2, 2, 2]


def test_titles_tell_systems_apart():
    plain = shares((60, 10), (600, 98))
    defended = [
        poisoned(10 + i, badnets(p), share=(n, 60_000), defense={"name": "<fine>", "epochs": 3})
        for i, (n, p) in enumerate([(60, 0.1), (600, 1.0)])
    ]
    titles = [c.title for c in poison_charts(rows(*plain, *defended))]
    assert len(titles) == len(set(titles)) == 4
    assert sum("<fine>" in t for t in titles) == 2
    assert "<fine>" not in html.page(record(*plain, *defended))
    assert poison_charts(rows(*plain))[0].title == "Attack success rate under poisoning"


def test_who_wants_any_error_has_a_curve_of_accuracy_only():
    found = poison_charts(
        rows(
            poisoned(1, flips(10.0), share=(6000, 60_000)),
            poisoned(2, flips(40.0), share=(24_000, 60_000)),
        )
    )
    assert [c.measure for c in found] == ["clean accuracy"]


def test_noise_has_curves_over_its_share_and_over_its_intensity():
    grid = [
        poisoned(i, noise(share, intensity), right=900 - i, share=(int(600 * share), 60_000))
        for i, (share, intensity) in enumerate((s, v) for s in (10.0, 100.0) for v in (0.5, 1.0))
    ]
    found = poison_charts(rows(*grid))
    assert [(c.over, [s.label for s in c.series]) for c in found] == [
        ("share", ["input-noise (intensity 0.5)", "input-noise (intensity 1)"]),
        ("intensity", ["input-noise (poisoned 10 %)", "input-noise (poisoned 100 %)"]),
    ]
    assert [[p.x for p in s.points] for s in found[0].series] == [[10.0, 100.0]] * 2
    assert [[p.x for p in s.points] for s in found[1].series] == [[0.5, 1.0]] * 2


def grid(*, top_5=True):
    """Noise over two shares and three intensities, two seeds each, with all that is drawn."""
    trials = []
    for i, (share, strength) in enumerate((s, v) for s in (10.0, 100.0) for v in (0.25, 0.5, 1.0)):
        for seed in (0, 1):
            made = poisoned(
                len(trials) + 1,
                noise(share, strength),
                seed=seed,
                right=900 - 50 * i,
                share=(int(600 * share), 60_000),
            )
            found = [
                mean(
                    "confidence in true class, clean", [0.9 - 0.1 * i, 0.7 - 0.1 * i], "probability"
                )
            ]
            if top_5:
                found.append(rate("clean top-5 accuracy", 980 - 20 * i - 10 * seed, 1000))
            measured = (*made.evidence.measurements, *found)
            trials.append(replace(made, evidence=replace(made.evidence, measurements=measured)))
    return trials


def points(chart):
    return {s.label: [(p.x, round(p.value, 6)) for p in s.points] for s in chart.series}


def test_a_grid_has_curves_of_top_1_top_5_and_confidence_over_share_and_intensity():
    found = {(c.over, c.measure): c for c in poison_charts(rows(*grid()))}
    assert [m for over, m in found if over == "share"] == [
        "clean accuracy",
        "clean top-5 accuracy",
        "confidence in true class, clean",
    ]
    assert [over for over, _ in found].count("intensity") == 3
    assert points(found["intensity", "clean top-5 accuracy"]) == {
        "input-noise (poisoned 10 %)": [(0.25, 0.975), (0.5, 0.955), (1.0, 0.935)],
        "input-noise (poisoned 100 %)": [(0.25, 0.915), (0.5, 0.895), (1.0, 0.875)],
    }
    assert points(found["share", "confidence in true class, clean"]) == {
        "input-noise (intensity 0.25)": [(10.0, 0.8), (100.0, 0.5)],
        "input-noise (intensity 0.5)": [(10.0, 0.7), (100.0, 0.4)],
        "input-noise (intensity 1)": [(10.0, 0.6), (100.0, 0.3)],
    }
    first = found["intensity", "clean top-5 accuracy"].series[0].points[0]
    wanted = mean("", [0.98, 0.97], "1")
    assert (first.low, first.high, first.n) == (
        pytest.approx(wanted.low),
        min(1.0, wanted.high),
        2,
    )


def test_with_five_classes_or_fewer_there_is_no_curve_of_top_5():
    found = poison_charts(rows(*grid(top_5=False)))
    assert {c.measure for c in found} == {"clean accuracy", "confidence in true class, clean"}


def test_what_is_drawn_is_in_percent_and_its_curves_can_be_told_apart():
    found = {(c.over, c.measure): c for c in poison_charts(rows(*grid()))}
    drawn = str(draw(found["share", "confidence in true class, clean"]))
    for label in ("intensity 0.25", "intensity 0.5", "intensity 1", "100 %"):
        assert f">{label}<" in drawn
    assert found["share", "confidence in true class, clean"].title == (
        "Confidence in true class under poisoning"
    )


def test_of_several_parameters_the_values_stand_beside_the_curve():
    pepper = [
        poisoned(20 + i, {**noise(p, 0.1), "kind": "uniform"}, share=(int(600 * p), 60_000))
        for i, p in enumerate((10.0, 100.0))
    ]
    charts = {c.over: c for c in poison_charts(rows(*grid(top_5=False)[:12], *pepper))[:1]}
    assert [s.brief for s in charts["share"].series] == [
        "0.25, gaussian",
        "0.5, gaussian",
        "1, gaussian",
        "0.1, uniform",
    ]


def test_a_defense_has_a_chart_of_its_own():
    plain = shares((60, 10), (600, 98))
    defended = [
        poisoned(10 + i, badnets(p), defense={"name": "x"}, share=(int(600 * p), 60_000))
        for i, p in enumerate((0.1, 1.0))
    ]
    assert len(poison_charts(rows(*plain, *defended))) == 4


def test_a_single_share_makes_no_curve():
    assert poison_charts(rows(poisoned(1, badnets()))) == ()
    assert poison_charts(rows(poisoned(1, None, share=None))) == ()


def test_a_figure_names_its_measure_and_has_a_logarithmic_axis_for_wide_ranges():
    success, accuracy = poison_charts(rows(*shares((6, 0), (60, 10), (600, 98))))
    drawn = str(draw(success))
    assert "attack success rate against poisoned training samples, %" in drawn
    for label in ("0.01", "0.1", "1"):
        assert f">{label}<" in drawn
    # accuracy is shown where it moves, not from zero
    assert ">90<" in str(draw(accuracy))


def test_the_page_shows_the_curves():
    text = html.page(record(*shares((60, 10), (600, 98))))
    assert "Attack success rate under poisoning" in text
    assert "Clean accuracy under poisoning" in text


def referring(made, right):
    """Return the trial with the accuracy of its reference: of 1,000 so many are read right."""
    evidence = made.evidence
    found = rate("accuracy without the attack", right, 1000)
    return replace(made, evidence=replace(evidence, measurements=(*evidence.measurements, found)))


def origins(*trials):
    """Return for each measure over the share where its first curve begins."""
    return {
        c.measure: [(p.x, p.value, p.n, p.trial) for p in c.series[0].points][:1]
        for c in poison_charts(rows(*trials))
        if c.over == "share"
    }


def test_a_curve_begins_with_the_reference():
    made = [referring(measuring(t, null=t.settings["seed"]), 990) for t in shares((60, 1), (6, 0))]
    found = origins(*made)
    first = min(t.number for t in made)
    assert found["attack success rate"] == [(0.0, pytest.approx(0.005), 2, first)]
    assert found["clean accuracy"] == [(0.0, pytest.approx(0.99), 2, first)]
    text = html.page(record(*made))
    assert "At 0 stands the same trigger on a model trained without the attack." in text
    assert "At 0 stands the same training without an attack." in text
    assert '<td class="num">0, no attack</td>' in text


def test_a_trial_without_an_attack_is_where_the_curves_of_its_defense_begin():
    defense = {"name": "x"}
    made = [
        referring(measuring(t, null=2), 990)
        for t in (
            poisoned(1, badnets(0.1), share=(60, 60_000), defense=defense),
            poisoned(2, badnets(1.0), share=(600, 60_000), defense=defense),
        )
    ]
    # the reference has no defense, so that no curve of a defended model begins with it
    assert {x for found in origins(*made).values() for (x, *_) in found} == {0.1}
    nobody = poisoned(3, None, share=None, right=930, defense=defense)
    found = origins(*made, nobody)
    assert found["clean accuracy"] == [(0.0, 0.93, 1, 3)]
    assert found["attack success rate"][0][0] == 0.1
    other = poisoned(3, None, share=None, right=930)
    assert origins(*made, other)["clean accuracy"][0][0] == 0.1


def test_an_origin_alone_makes_no_curve():
    assert poison_charts(rows(referring(measuring(poisoned(1, badnets()), null=2), 990))) == ()


def test_a_curve_over_intensity_begins_with_the_reference_too():
    charts = poison_charts(rows(*(referring(t, 990) for t in grid())))
    found = {(c.over, c.measure): c for c in charts}
    assert [s.points[0].x for s in found["intensity", "clean accuracy"].series] == [0.0, 0.0]
    # of top-5 accuracy and confidence the reference has no figure
    assert [s.points[0].x for s in found["share", "clean top-5 accuracy"].series] == [10.0] * 3


def test_a_curve_names_its_attack_above_what_sets_it_apart():
    pair = shares((60, 10), (600, 98))
    found = {(c.over, c.measure): c for c in poison_charts(rows(*grid(), *pair))}
    chart = found["share", "clean accuracy"]
    drawn = str(draw(chart))
    assert drawn.count(">input-noise<") == 3
    for label in ("intensity 0.25", "intensity 0.5", "intensity 1", "badnets"):
        assert drawn.count(f">{label}<") == 1
    assert [(s.name, s.brief) for s in chart.series] == [
        ("input-noise", "intensity 0.25"),
        ("input-noise", "intensity 0.5"),
        ("input-noise", "intensity 1"),
        ("badnets", ""),
    ]


def test_figures_of_a_curve_count_seeds_and_not_samples():
    alone = [poisoned(i, badnets(p), share=(int(600 * p), 60_000)) for i, p in ((1, 0.1), (2, 1.0))]
    for chart in poison_charts(rows(*alone)):
        assert [p.n for p in chart.series[0].points] == [1, 1]
    text = html.page(record(*alone))
    table = text[text.index("Figures of this curve") : text.index('id="poisonings"') + 20_000]
    assert '<th scope="col" class="num">Seeds</th>' in table
    assert '<th scope="col" class="num">n</th>' not in table.partition("</table>")[0]
