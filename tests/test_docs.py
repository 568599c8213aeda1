"""The pages point at each other and at what exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from casemate import registry
from casemate.campaign.document import parse_document
from casemate.campaign.sections import Options
from casemate.campaign.spec import read_spec
from casemate.errors import ExitCode
from casemate.evidence import MEASURES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_lead_somewhere(page):
    dead = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path) if path else page
        if not file.exists():
            dead.append(target)
        elif anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            if anchor not in slugs:
                dead.append(target)
    assert not dead


def test_the_index_lists_every_page():
    index = ROOT / "docs" / "index.md"
    listed = {
        (index.parent / target).resolve()
        for target in LINK.findall(index.read_text(encoding="utf-8"))
        if ":" not in target
    }
    assert {p for p in PAGES if p.parent == index.parent} - listed == {index}


def test_commands_in_the_readme_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        used = re.findall(r"(?:^|[$`]) *make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE)
        assert used, page
        assert set(used) <= targets, page


def campaign_page() -> str:
    return (ROOT / "docs" / "campaign.md").read_text(encoding="utf-8")


def test_the_campaign_page_lists_every_measure_and_option():
    sections = dict(
        re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", campaign_page(), re.DOTALL | re.MULTILINE)
    )
    first = [re.match(r"\| (`.*?) \|", line) for line in sections["`policy`"].splitlines()]
    measures = [name for m in first if m for name in re.findall(r"`(.+?)`", m[1])]
    assert set(measures) == set(MEASURES)
    keys = re.findall(r"^\| `(\w+)` \|", sections["`trials`"], re.MULTILINE)
    assert set(keys) == {"training", "hardware", "attack", "goal", "defense", "monitor"} | {
        f.name for f in fields(Options)
    }
    sources = re.findall(r"^\| `(\w+)` \|", sections["`data`"], re.MULTILINE)
    assert sources == registry.names("data")
    codes = re.findall(r"^\| (\d+) \|", sections["Exit codes"], re.MULTILINE)
    assert {int(c) for c in codes} == {int(c) for c in ExitCode} | {70, 130}


def test_the_campaign_pages_example_is_well_formed():
    text = re.search(r"```yaml\n(casemate:.*?)```", campaign_page(), re.DOTALL)[1]
    spec, problems = read_spec(parse_document(text, "page"), base_dir=ROOT)
    assert not problems
    assert len(spec.trials) == 2 + 8
    assert len(spec.rules) == 2
