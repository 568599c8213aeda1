from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from casemate.campaign.encoding import encode_evidence
from casemate.campaign.store import Store

SPEC = """
casemate: 1
name: killed
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 2, learning_rate: 0.05, batch_size: 64}}
defaults: {samples: 20}
trials:
  - attack: {name: pgd, epsilon: [1/16, 2/16, 3/16], steps: 5, restarts: 2}
  - attack: {name: lbfgs, searches: 2, iterations: 5}
  - attack: {name: pgd, epsilon: 2/16, steps: 5}
    defense: {name: median}
    attacker: [after, before, aware]
"""


def test_killed_again_and_again_ends_with_the_same_evidence(tmp_path, monkeypatch):
    monkeypatch.setenv("CASEMATE_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "killed.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kills.py")), str(spec), str(tmp_path), "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout.split()[-1])
    if killed < 5:
        pytest.fail(f"only {killed} of the runs were killed before their end: no test of anything")
    with Store.reader(tmp_path / "whole") as whole, Store.reader(tmp_path / "killed") as resumed:
        keys = whole.finished()
        assert len(keys) == 7
        assert resumed.finished() == keys
        for key in keys:
            one, other = whole.trial(key).evidence, resumed.trial(key).evidence
            assert encode_evidence(one) == encode_evidence(other)
        name, data = "killed", []
        for store in (whole, resumed):
            frame = store.campaign(name)
            data.append({k: v for k, v in frame.items() if k != "provenance"})
        # accuracy and settings are the same; the command line names another store
        for frame in data:
            for trial in frame["trials"]:
                trial.pop("replay")
        assert data[0] == data[1]
