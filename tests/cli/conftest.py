"""Fixtures of the command line's tests: a folder with an audit, and the command in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from audit import write_audit

from casemate.cli import console
from casemate.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A current folder with an audit in closed form."""
    monkeypatch.setenv("CASEMATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASEMATE_STORE", raising=False)
    monkeypatch.delenv("CASEMATE_DATA", raising=False)
    # a terminal of fixed width without colors
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    write_audit(work)
    return work


@pytest.fixture
def casemate(folder, capsys):
    """The command, run in this process."""

    def run(*arguments: str) -> Outcome:
        sys.modules.pop("audited", None)
        console.err.cache_clear()  # it holds the stream of the test before
        code = main(arguments)
        captured = capsys.readouterr()
        out = "\n".join(line.rstrip() for line in captured.out.splitlines())
        return Outcome(
            code, out.replace(str(folder), "FOLDER"), captured.err.replace(str(folder), "FOLDER")
        )

    return run
