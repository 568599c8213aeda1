from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hostile import HOSTILE, hostile_record
from report_demo import demo_record, evidence, trial

from casemate.campaign.record import Finding
from casemate.evidence import Verdict
from casemate.report import html
from casemate.report.limits import LADDER, MAX_BYTES, next_rung
from casemate.threats import taxonomy


@pytest.fixture(scope="module")
def hostile(read):
    return read(html.page(hostile_record()))


def test_the_page_is_well_formed(page):
    assert page.errors == []


def test_ids_are_unique_and_every_link_has_its_target(page):
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        href = attributes.get("href", "")
        if href.startswith("#"):
            assert href[1:] in ids
        for name in ("aria-labelledby", "aria-controls"):
            assert set(attributes.get(name, "").split()) <= set(ids)


def test_the_page_loads_nothing(page):
    for tag, attributes, _ in page.elements:
        assert attributes.get("src", "data:").startswith("data:"), tag
        if tag == "link":
            assert attributes["href"] == "data:,"
        assert "srcset" not in attributes
    assert "@import" not in "".join(page.texts["style"])
    assert "url(" not in "".join(page.texts["style"])


def test_the_content_security_policy_allows_the_own_style_and_script_only(page):
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_no_element_carries_style_or_script(page, hostile):
    for read in (page, hostile):
        for tag, attributes, _ in read.elements:
            assert not [a for a in attributes if a == "style" or a.startswith("on")], tag


def test_landmarks_and_headings(page):
    tags = [tag for tag, _, _ in page.elements]
    assert [tags.count(t) for t in ("main", "header", "nav", "h1")] == [1, 1, 1, 1]
    assert page.elements[0][1] == {"lang": "en"}
    levels = [int(t[1]) for t in tags if re.fullmatch("h[1-6]", t)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(a.get("scope") for a in page.all("th"))
    assert all("alt" in a for a in page.all("img"))


def test_the_parts_stand_in_their_order(page):
    sections = [a["id"] for a in page.all("section")]
    assert sections == [
        "verdict",
        "summary",
        "matrix",
        "findings",
        "trials",
        "comparisons",
        "scenarios",
        "health",
        "untested",
        "provenance",
    ]


def test_figures_are_those_of_the_record(record, source):
    for t in record.trials:
        row = re.search(rf'<tbody id="trial-{t.number}".*?</tbody>', source, re.DOTALL)[0]
        row = row.replace("\u00a0", " ")
        for m in t.evidence.measurements if t.evidence else ():
            if m.unit not in {"1", "probability"}:
                continue
            value, low, high = (f"{100 * v:.1f}" for v in (m.value, m.low, m.high))
            assert f'{value} %</span> <span class="between">[{low}, {high}]' in row, m
            assert f"n = {m.n}" in row
        assert (t.replay in row) == bool(t.replay)


def test_not_run_is_never_passed(page, source):
    cells = [a for tag, a, _ in page.elements if tag == "td" and "cell" in a.get("class", "")]
    states = [a["class"].removeprefix("cell ") for a in cells]
    assert states.count("not-run") == sum(len(t.stages) for t in taxonomy().values()) - 1
    assert "passed" not in states
    for cell in re.findall(r'<td class="cell not-run".*?</td>', source, re.DOTALL):
        assert "#i-not-run" in cell
        assert "not run" in cell
        assert "passed" not in cell


def test_failed_trials_show_their_error_and_traceback(page):
    assert "the model raised RuntimeError" in page.words
    assert "x = self.layer11(x)" in page.words


def test_identifiers_are_no_claim_of_compliance(page):
    assert "Evidence relevant to" in page.words
    assert "complian" not in page.words.lower()


def test_hostile_text_stays_text(hostile):
    assert hostile.errors == []
    assert len(hostile.all("script")) == len(hostile.all("style")) == 1
    assert all(a["src"].startswith("data:image/png;base64,") for a in hostile.all("img"))
    shown = hostile.words
    assert HOSTILE[0] in shown
    assert HOSTILE[1] in shown
    assert "⟨U+202E⟩gnp.exe⟨U+2066⟩" in shown
    assert not set("\u202e\u2066") & set(shown)
    assert "{{ 7 * 7 }}" in shown
    trials = shown.partition("number opens its details")[2].partition("Configuration as")[0]
    assert "A" * 2000 not in trials  # of a command to copy two thirds of 2000 are kept
    assert "(10,000 characters)" in shown


def test_a_record_without_a_policy_is_measured_and_not_judged(read):
    record = demo_record()
    trials = tuple(replace(t, verdict=None, reasons=()) for t in record.trials)
    spec = {k: v for k, v in record.spec.items() if k != "policy"}
    bare = replace(record, trials=trials, findings=(), verdict=None, exit_code=0, spec=spec)
    found = read(html.page(bare))
    assert found.errors == []
    assert "Measured, not judged" in found.words
    assert "No policy was set" in found.words


def test_an_empty_record_is_a_page_too(read):
    record = replace(demo_record(), trials=(), findings=(), models=(), provenance={}, spec={})
    found = read(html.page(record))
    assert found.errors == []
    assert "No check raised a flag" not in found.words
    assert "No trial has evidence, so no check was made" in found.words


def test_without_flags_the_checks_are_listed(read):
    made = trial(1, {"name": "pgd"}, evidence=evidence(0.5, n=20))
    found = read(html.page(replace(demo_record(), trials=(made,), findings=())))
    assert "No check raised a flag" in found.words
    assert "Failure without any bound" in found.words


def noisy(count):
    """Findings with pictures that do not compress."""
    rng = np.random.default_rng(0)
    base = evidence(0.9, epsilon=0.1, n=40)
    shape = (6, 3, 96, 96)
    pictures = rng.random((2, *shape), np.float32)
    examples = {**base.examples, "clean": pictures[0], "attacked": pictures[1]}
    found = replace(base, examples=examples)
    return tuple(
        trial(i, {"name": "pgd", "epsilon": 0.1, "steps": i}, evidence=found, verdict=Verdict.FAIL)
        for i in range(1, count + 1)
    )


def record_of(trials):
    rule = {"measure": "attack success rate", "at_most": 0.1}
    findings = (Finding(trial=t.number, title="t", message="m", rule=rule) for t in trials)
    return replace(demo_record(), trials=tuple(trials), findings=tuple(findings))


def test_galleries_shrink_until_the_page_fits(read):
    text = html.page(record_of(noisy(25)))
    assert len(text.encode()) < MAX_BYTES
    found = read(text)
    assert "To stay under 5 MB this report shows at most" in found.words
    assert len(found.all("img")) < 25 * 6 * 3
    assert len([a for a in found.all("details") if a.get("class") == "finding"]) == 25


def test_a_page_that_fits_is_not_shortened(page):
    assert "To stay under" not in page.words


def test_the_longest_and_most_hostile_campaign_fits(read):
    wide = "\u202e" * 10_000
    failed = [
        trial(
            i,
            {"name": wide, "epsilon": i / 1e4, wide: wide},
            goal=(None, None),
            defense={"name": wide},
            status="failed",
            error=wide,
            traceback=wide * 10,
            reasons=(wide,) * 30,
            replay=wide,
            threat=wide,
            verdict=Verdict.FAIL,
        )
        for i in range(1, 26)
    ]
    record = record_of(failed)
    record = replace(
        record,
        name=wide,
        description=wide,
        findings=tuple(
            replace(f, title=wide, message=wide, rule={wide: wide}) for f in record.findings
        ),
        models=({"name": wide, "classes": [wide] * 500},) * 30,
        provenance={wide: {f"{k}{wide}": wide for k in range(300)}},
        spec={"policy": [{wide: wide}] * 30},
    )
    text = html.page(record)
    assert len(text.encode()) < MAX_BYTES
    assert read(text).errors == []


def test_a_large_campaign_says_how_many_trials_it_shows(read):
    text = html.page(
        record_of([trial(i, {"name": "pgd"}, status="not run") for i in range(1, 3001)])
    )
    found = read(text)
    shown = len([a for a in found.all("tbody") if a.get("id", "").startswith("trial-")])
    assert 0 < shown < 3000
    assert f"The first {shown:,} of 3,000 trials are shown" in found.words


def test_the_ladder_gets_shorter_and_is_climbed_to_its_end():
    for longer, shorter in pairwise(LADDER):
        assert shorter.examples <= longer.examples
        assert shorter.rows <= longer.rows
        assert shorter != longer
    assert next_rung(0, MAX_BYTES + 1) == 1
    assert next_rung(0, 10**12) == len(LADDER) - 1
    assert next_rung(len(LADDER) - 1, 10**12) == len(LADDER)


def test_the_same_record_is_the_same_page(record, source):
    assert html.page(record) == source


def test_write_returns_where_the_page_is(tmp_path, record, source):
    path = html.write(record, tmp_path / "report.html")
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == source
