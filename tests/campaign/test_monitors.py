"""Monitors of single inputs as campaigns name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.errors import UsageError
from casemate.inference.alarms import NULLS

FRAME = """
casemate: 1
name: monitors
data: {source: digits}
model: {architecture: mlp, recipe: {epochs: 2, batch_size: 64}}
trials:
"""
BADNETS = "{name: badnets, amount: {percent: 10}, target: 2}"
STRIP = "{name: strip, overlays: 10, false_alarms: 0.05}"
FLIPS = "{name: label-flips, amount: {percent: 5}}"
PARTS = "{name: partition-aggregation, partitions: 3}"
NONSENSE = "{name: strip, false_alarms: 2}"


def planned(*trials, store=None):
    text = FRAME + "".join(f"  - {t}\n" for t in trials)
    gates = Gates(base_dir=Path())
    spec, problems = read_spec(parse_document(text, "c.yaml"), base_dir=Path())
    return make_plan(spec, problems, gates, store), gates


def test_a_monitor_measures_and_leaves_the_model_as_it_was(tmp_path):
    gate = f"training: {{attack: {BADNETS}, clean: 120}}"
    with Store(tmp_path, write=True) as store:
        plan, gates = planned(
            f"{{{gate}, monitor: [{STRIP}, {{name: mahalanobis, false_alarms: 0.05}}, null]}}",
            store=store,
        )
        record = run_plan(plan, store, gates, replay=Replay(source="c.yaml"), listeners=())
    strip, mahalanobis, bare = ({m.name: m for m in t.evidence.measurements} for t in record.trials)
    names = {"monitor false alarms", *NULLS, *(f"{name} without the attack" for name in NULLS)}
    assert set(strip) - set(bare) == set(mahalanobis) - set(bare) == names
    assert {k: m for k, m in strip.items() if k not in names} == bare
    assert any(strip[name] != mahalanobis[name] for name in names)
    assert record.trials[0].settings["monitor"]["overlays"] == 10
    assert "monitor" not in record.trials[2].settings
    assert len({t.key for t in record.trials}) == 3


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (f"{{attack: {{name: fgsm, epsilon: 0.1}}, monitor: {STRIP}}}", "looks for triggers"),
        (f"{{training: {{attack: null, clean: 120}}, monitor: {STRIP}}}", "looks for triggers"),
        (
            f"{{training: {{attack: {FLIPS}, clean: 120}}, monitor: {STRIP}}}",
            "looks for triggers",
        ),
        (f"{{training: {{attack: {BADNETS}}}, monitor: {STRIP}}}", "set training.clean"),
        (
            f"{{training: {{attack: {BADNETS}, clean: 36}}, monitor: [null, {STRIP}]}}",
            r"line 7, trials\[0\]\.monitor\[1\]: strip is fitted on .* set it to 37 or more",
        ),
        (
            f"{{training: {{attack: {BADNETS}, clean: 120, defense: {PARTS}}}, monitor: {STRIP}}}",
            "strip looks into one network, but partition-aggregation makes a committee",
        ),
        (
            f"{{training: {{attack: {BADNETS}, clean: 9}}, monitor: {{name: strips}}}}",
            'no monitor named "strips"',
        ),
        (
            f"{{training: {{attack: {BADNETS}, clean: 9}}, monitor: {NONSENSE}}}",
            r"monitor\.false_alarms",
        ),
    ],
)
def test_a_monitor_without_what_it_needs_is_refused(trial, words):
    with pytest.raises(UsageError, match=words):
        planned(trial)
