from __future__ import annotations

from dataclasses import replace

from poisoned_trials import count, poisoned, record, rows

from casemate.report import html, json
from casemate.report.transfer import transfers


def low_impact(number, architecture, hits, n=60, **more):
    return poisoned(
        number,
        count("low-impact", n, architecture=architecture, epsilon=0.45),
        hits=hits,
        share=(n, 60_000),
        **more,
    )


def test_surrogates_stand_side_by_side_the_victims_own_first():
    (found,) = transfers(
        rows(
            low_impact(1, "mlp", 60),
            low_impact(2, "victim", 94, seed=0),
            low_impact(3, "victim", 96, seed=1),
            low_impact(4, "victim", 70, n=10),  # no other architecture with that many
            poisoned(5, count("badnets", 60)),
        )
    )
    assert [(s.architecture, s.row.first.number) for s in found.surrogates] == [
        ("vgg, as the victim", 2),
        ("mlp", 1),
    ]
    assert found.surrogates[0].row.figures["attack success rate"].value == 0.95


def test_nothing_to_hold_against_each_other():
    assert transfers(rows(low_impact(1, "victim", 94), low_impact(2, "mlp", 60, n=10))) == ()


def test_page_and_document_name_the_surrogates():
    failed = replace(low_impact(2, "<s>", 1), status="failed", evidence=None, error="broken")
    made = record(low_impact(1, "victim", 94), failed)
    text = html.page(made)
    section = text[text.index('id="transfer-title"') : text.index('id="trials"')]
    assert "vgg, as the victim" in section
    assert "&lt;s&gt;" in section
    assert "failed" in section
    (found,) = json.document(made)["transfer"]
    assert [s["success"] and s["success"]["value"] for s in found["surrogates"]] == [0.94, None]
