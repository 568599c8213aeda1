from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from casemate import registry
from casemate.threats import Stage, taxonomy, taxonomy_sources

PAGE = Path(__file__).parents[1] / "docs" / "threats.md"
MARK = {"exact": "=", "closest": "~", "related": "+"}
PATTERN = {
    "atlas": r"AML\.T\d{4}(\.\d{3})?",
    "nist": r"NISTAML\.0[1-5]\d?",
    "owasp": r"ML(0[1-9]|10):2023",
    "cwe": r"CWE-\d{1,4}",
}
# MITRE ATLAS 5.6.1, dist/ATLAS.yaml
ATLAS = {
    "AML.T0010.000": "Hardware",
    "AML.T0010.001": "AI Software",
    "AML.T0010.002": "Data",
    "AML.T0010.003": "Model",
    "AML.T0011.000": "Unsafe AI Artifacts",
    "AML.T0015": "Evade AI Model",
    "AML.T0018.000": "Poison AI Model",
    "AML.T0018.001": "Modify AI Model Architecture",
    "AML.T0018.002": "Embed Malware",
    "AML.T0019": "Publish Poisoned Datasets",
    "AML.T0020": "Poison Training Data",
    "AML.T0024.000": "Infer Training Data Membership",
    "AML.T0024.001": "Invert AI Model",
    "AML.T0024.002": "Extract AI Model",
    "AML.T0029": "Denial of AI Service",
    "AML.T0034.001": "Resource-Intensive Queries",
    "AML.T0040": "AI Model Inference API Access",
    "AML.T0041": "Physical Environment Access",
    "AML.T0043.000": "White-Box Optimization",
    "AML.T0043.001": "Black-Box Optimization",
    "AML.T0043.002": "Black-Box Transfer",
    "AML.T0043.004": "Insert Backdoor Trigger",
    "AML.T0048.004": "AI Intellectual Property Theft",
    "AML.T0059": "Erode Dataset Integrity",
}
# Regulation (EU) 2024/1689, Article 15(5), third subparagraph
ARTICLE_15_5 = {
    "data poisoning",
    "model poisoning",
    "adversarial examples or model evasion",
    "confidentiality attacks",
    "model flaws",
}
THREATS = list(taxonomy().values())
REFERENCES = [(t, r) for t in THREATS for r in t.references]


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(files("casemate").joinpath("taxonomy.yaml").read_text(encoding="utf-8"))


def test_the_file_holds_nothing_that_is_not_read(document):
    known = {"id", "title", "stages", "note", "eu_ai_act", *PATTERN}
    assert set(document) == {"sources", "regulation", "threats"}
    for row in document["threats"]:
        assert set(row) <= known, row["id"]
        for catalog in PATTERN:
            for entry in row.get(catalog, ()):
                assert {"id", "relation"} <= set(entry) <= {"id", "relation", "note"}, entry
    assert len(document["threats"]) == len(THREATS), "two threats share an id"


def test_every_source_says_title_version_and_address(document):
    assert list(taxonomy_sources()) == list(PATTERN)
    for source in (*taxonomy_sources().values(), document["regulation"]):
        assert set(source) == {"title", "version", "url"}
        assert all(isinstance(v, str) and v for v in source.values())
        assert source["url"].startswith("https://")


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.id)
def test_a_threat_is_well_formed(threat):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", threat.id)
    assert threat.title[0].isupper()
    assert not threat.title.endswith(".")
    assert threat.stages
    assert len(set(threat.stages)) == len(threat.stages)
    assert threat.eu_ai_act is None or threat.eu_ai_act in ARTICLE_15_5
    assert not threat.note or threat.note.endswith(".")
    ids = [r.id for r in threat.references]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("threat", "reference"), REFERENCES, ids=[f"{t.id}-{r.id}" for t, r in REFERENCES]
)
def test_a_reference_is_well_formed(threat, reference):
    assert re.fullmatch(PATTERN[reference.catalog], reference.id)
    assert reference.relation in MARK
    # what is not exactly the threat says what it is
    assert bool(reference.note) is (reference.relation != "exact")
    if reference.catalog == "atlas":
        assert reference.id in ATLAS


def test_no_match_is_forced():
    """ "Closest" only where nothing is exact; one entry is exactly one threat."""
    for threat in THREATS:
        for catalog in PATTERN:
            relations = [r.relation for r in threat.references if r.catalog == catalog]
            assert relations.count("exact") <= 1
            assert not {"exact", "closest"} <= set(relations), (threat.id, catalog)
    exact = [r.id for _, r in REFERENCES if r.relation == "exact"]
    assert len(set(exact)) == len(exact)


def test_threats_without_counterpart_have_none():
    empty = {
        catalog: {t.id for t in THREATS if all(r.catalog != catalog for r in t.references)}
        for catalog in ("atlas", "nist", "owasp")
    }
    assert empty == {
        "atlas": {"hardware-faults", "side-channel", "property-inference"},
        "nist": {"hardware-faults", "hardware-trojan"},
        "owasp": {"hardware-faults", "property-inference", "energy-latency"},
    }
    silent = {t.id for t in THREATS if t.eu_ai_act is None}
    assert silent == {"hardware-trojan", "energy-latency"}


def test_every_stage_is_covered_in_the_order_of_a_models_life():
    first = [list(Stage).index(t.stages[0]) for t in THREATS]
    assert first == sorted(first)
    assert set(first) == set(range(len(Stage)))


@pytest.mark.parametrize("name", list(registry._BUILT_IN["attack"]))
def test_every_attack_names_a_threat_at_its_stage(name):
    model = registry.get("attack", name).threat
    assert model.stage in taxonomy()[model.threat].stages
    assert model.goals
    assert model.budget


def parts():
    """The generated parts of the page, by name."""
    sources = ["| catalog | version | address |", "|---|---|---|"]
    document = yaml.safe_load(
        files("casemate").joinpath("taxonomy.yaml").read_text(encoding="utf-8")
    )
    sources += [
        f"| {source['title']} | {source['version']} | <{source['url']}> |"
        for source in (*document["sources"].values(), document["regulation"])
    ]

    titles = ["ATLAS", "NIST", "OWASP", "CWE"]
    head = ["threat", "id", "stage", *titles, "EU AI Act, Article 15(5)"]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for threat in THREATS:
        cells = [threat.title, f"`{threat.id}`", ", ".join(s.value for s in threat.stages)]
        for catalog in PATTERN:
            entries = [
                f"{MARK[r.relation]} {r.id}" + (f" ({r.note})" if r.note else "")
                for r in threat.references
                if r.catalog == catalog
            ]
            cells.append("; ".join(entries) or "-")
        table.append(f"| {' | '.join([*cells, threat.eu_ai_act or '-'])} |")

    notes = [f"- **{t.title}**: {t.note}" for t in THREATS if t.note]
    return {"sources": sources, "table": table, "notes": notes}


def generated(page):
    """Return the page with its generated parts written anew."""
    for name, lines in parts().items():
        block = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
        assert block.search(page), f"docs/threats.md has no part {name}"
        body = "\n".join(lines)
        page = block.sub(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", page)
    return page


def test_the_page_shows_the_taxonomy():
    page = PAGE.read_text(encoding="utf-8")
    assert page == generated(page), "run: python tests/test_threats.py"


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
