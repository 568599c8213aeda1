"""Fixtures of the campaign's tests: an audit in closed form, planned and run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from audit import SPEC, write_audit

from casemate import registry
from casemate.campaign.assemble import Replay
from casemate.campaign.document import load_document, parse_document
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store


class Audit:
    """A campaign in a folder, and its store."""

    def __init__(self, folder: Path) -> None:
        self.path = write_audit(folder)
        self.folder = folder
        self.store = folder / "store"

    def rewrite(self, old: str, new: str) -> None:
        text = self.path.read_text(encoding="utf-8")
        assert old in text
        self.path.write_text(text.replace(old, new), encoding="utf-8")

    def retrain(self) -> None:
        module = self.folder / "audited.py"
        module.write_text(
            module.read_text(encoding="utf-8").replace("2.5", "2.4"), encoding="utf-8"
        )

    def plan(self, store: Store | None = None, *, size: str | None = None, **options):
        sys.modules.pop("audited", None)  # each campaign here is another process in life
        gates = Gates(base_dir=self.folder)
        spec, problems = read_spec(load_document(self.path), base_dir=self.folder, size=size)
        return make_plan(spec, problems, gates, store, **options), gates

    def run(self, *listeners, only: str | None = None, again: bool = False):
        with Store(self.store, write=True) as store:
            plan, gates = self.plan(store)
            plan = plan if only is None else plan.only(only)
            replay = Replay(source=str(self.path))
            return run_plan(plan, store, gates, replay=replay, again=again, listeners=listeners)


@pytest.fixture
def shift(monkeypatch) -> str:
    """The name of a defense for features."""
    table = dict(registry._table("defense")) | {"test-shift": "audit_defense:Shift"}
    real = registry._table
    monkeypatch.setattr(registry, "_table", lambda kind: table if kind == "defense" else real(kind))
    return "test-shift"


@pytest.fixture
def audit(tmp_path, monkeypatch) -> Audit:
    monkeypatch.setenv("CASEMATE_CACHE", str(tmp_path / "cache"))
    return Audit(tmp_path)


@pytest.fixture
def problems_of():
    """Return what reading a specification finds wrong, as one text."""

    def find(text: str, *, size: str | None = None) -> str:
        _, problems = read_spec(parse_document(text, "c.yaml"), base_dir=Path(), size=size)
        return "\n".join(problems)

    return find


@pytest.fixture
def spec_of():
    """Return the specification in a text that has nothing wrong with it."""

    def read(text: str, *, size: str | None = None):
        spec, problems = read_spec(parse_document(text, "c.yaml"), base_dir=Path(), size=size)
        problems.check()
        return spec

    return read


__all__ = ["SPEC"]
