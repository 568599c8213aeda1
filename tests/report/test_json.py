from __future__ import annotations

import json as stdlib_json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from report_demo import demo_record, evidence, trial

from casemate.report import json
from casemate.stats import Measurement

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return stdlib_json.loads(text, parse_constant=refuse)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


def test_the_file_reads_back_as_the_document(tmp_path, record):
    path = json.write(record, tmp_path / "report.json")
    read = strict(path.read_text(encoding="ascii"))
    assert read == json.document(record)
    assert (read["schema"], read["version"]) == ("casemate-report", 1)
    assert all(map(math.isfinite, numbers(read)))


def test_figures_are_those_of_the_record(record):
    document = json.document(record)
    assert len(document["trials"]) == len(record.trials)
    for entry, source in zip(document["trials"], record.trials, strict=True):
        assert (entry["number"], entry["key"]) == (source.number, source.key)
        made = source.evidence.measurements if source.evidence else ()
        assert [
            (m["name"], m["value"], m["n"], m["low"], m["high"]) for m in entry["measurements"]
        ] == [(m.name, m.value, m.n, m.low, m.high) for m in made]
    assert [f["trial"] for f in document["findings"]] == [f.trial for f in record.findings]


def test_what_is_not_finite_is_null(tmp_path):
    odd = Measurement(name="odd", value=math.nan, n=1, low=-math.inf, high=math.inf, unit="x")
    found = replace(evidence(0.5, n=20), measurements=(odd,), spent={"queries": np.int64(3)})
    made = trial(1, {"name": "pgd", "epsilon": np.float32(np.nan)}, evidence=found)
    record = replace(demo_record(), trials=(made,), findings=())
    (entry,) = strict(json.write(record, tmp_path / "r.json").read_text())["trials"]
    measured = entry["measurements"][0]
    assert (measured["value"], measured["low"], measured["high"]) == (None, None, None)
    assert entry["spent"] == {"queries": 3}


def test_the_text_can_stand_in_a_page(tmp_path):
    hostile = "</script><script>alert(1)</script>\u2028\ud800"
    text = json.write(replace(demo_record(), name=hostile), tmp_path / "r.json").read_text("ascii")
    assert "<" not in text
    assert strict(text)["name"] == hostile


def test_not_run_is_not_passed(record):
    document = json.document(record)
    states = {s["state"] for row in document["matrix"] for s in row["stages"].values()}
    assert "not run" in states
    for row in document["matrix"]:
        for stage, cell in row["stages"].items():
            assert (row["title"] in document["not_tested"][stage]) == (cell["state"] == "not run")


def test_every_block_is_explained():
    words = PAGE.read_text(encoding="utf-8")
    document = json.document(demo_record())
    blocks = {*document, *document["trials"][0], *document["summary"], *document["comparisons"][0]}
    assert [b for b in sorted(blocks) if f"`{b}`" not in words] == []
