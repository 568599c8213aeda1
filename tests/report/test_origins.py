from __future__ import annotations

from dataclasses import replace

from report_demo import demo_record

from casemate.report import html, origins


def record_of(*torches):
    base = demo_record()
    trials = tuple(
        replace(
            t,
            made={
                "at": f"2026-01-0{i + 1}T00:00:00+00:00",
                "versions": {**base.provenance["versions"], "torch": torch},
                "hardware": base.provenance["hardware"],
            },
        )
        for i, (t, torch) in enumerate(zip(base.trials, torches, strict=False))
    )
    return replace(base, trials=trials, findings=())


def test_evidence_of_this_run_needs_no_word():
    assert origins.elsewhere(record_of("2.13.0", "2.13.0")) == ()
    assert origins.elsewhere(demo_record()) == ()  # a record that does not say


def test_other_versions_are_told_once_with_their_trials_counted():
    record = record_of("2.13.0", "2.12.0", "2.12.0", "2.11.0")
    assert origins.elsewhere(record) == (
        "2 trials of 2026-01-02 to 2026-01-03: torch 2.12.0 instead of 2.13.0",
        "1 trial of 2026-01-04: torch 2.11.0 instead of 2.13.0",
    )


def test_the_report_says_where_evidence_comes_from():
    text = html.page(record_of("2.13.0", "<2.12>"))
    assert "Not all evidence is of this run" in text
    assert "torch &lt;2.12&gt; instead of 2.13.0" in text
    assert "Computed 2026-01-01T00:00:00+00:00, casemate 0.1.0, torch 2.13.0" in text
