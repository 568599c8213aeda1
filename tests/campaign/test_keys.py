"""What decides a trial's evidence is in its key, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from casemate.campaign.document import Problems
from casemate.campaign.drafts import make_drafts
from casemate.campaign.gates import Gates
from casemate.campaign.provenance import versions
from casemate.inference.attacks.fgsm import FGSM

BASE = "  - attack: {name: pgd, epsilon: 0.25, steps: 5}\n    goal: {from: low, to: high}"
TRIAL = "  - {attack: {name: pgd, epsilon: 0.25, steps: 5}, goal: {from: low, to: high}%s}"

DECIDES = {
    "an attack's parameter": ("steps: 5", "steps: 6"),
    "another attack": (
        "{name: pgd, epsilon: 0.25, steps: 5}",
        "{name: bim, epsilon: 0.25, steps: 5, step_size: 0.1}",
    ),
    "the goal": (BASE, TRIAL.replace("{from: low, to: high}", "{from: low}") % ""),
    "whose samples": (BASE, TRIAL.replace("{from: low, to: high}", "{to: high}") % ""),
    "how many samples": ("samples: 40", "samples: 39"),
    "early stop": (BASE, TRIAL % ", early_stop: false"),
    "queries": (BASE, TRIAL % ", queries: 3"),
    "the seed": (BASE, TRIAL % ", seed: 1"),
    "the model's outputs": ('"audited:make"', '"audited:make", outputs: probabilities'),
    "the preprocessing": ('"audited:make"', '"audited:make", preprocessing: {mean: 0.1, std: 1}'),
    "the data": ("path: data.npz", "path: data.npz, low: -1, high: 2"),
}


def key_of(audit) -> str:
    plan, _ = audit.plan()
    return plan.trials[-1].key


@pytest.mark.parametrize(("old", "new"), DECIDES.values(), ids=DECIDES)
def test_what_decides_the_evidence_changes_the_key(audit, old, new):
    before = key_of(audit)
    assert key_of(audit) == before
    audit.rewrite(old, new)
    assert key_of(audit) != before


def test_the_defense_and_its_parameters_change_the_key(audit, shift):
    keys = [key_of(audit)]
    audit.rewrite(BASE, TRIAL % f", defense: {{name: {shift}}}")
    keys.append(key_of(audit))
    audit.rewrite(f"name: {shift}", f"name: {shift}, by: 0.002")
    keys.append(key_of(audit))
    assert len(set(keys)) == 3


def test_rounding_changes_the_key(audit):
    audit.rewrite("path: data.npz", "path: bytes.npz")
    with np.load(audit.folder / "data.npz") as arrays:
        found = {k: (255 * v).astype(np.uint8) if k[0] == "x" else v for k, v in arrays.items()}
    np.savez(audit.folder / "bytes.npz", **found)
    before = key_of(audit)
    audit.rewrite(BASE, TRIAL % ", round: true")
    assert key_of(audit) != before


@pytest.mark.parametrize("position", ["after", "before"])
def test_the_position_of_the_attacker_changes_the_key(audit, shift, position):
    audit.rewrite(BASE, TRIAL % f", defense: {{name: {shift}}}")
    before = key_of(audit)
    audit.rewrite(f"{{name: {shift}}}", f"{{name: {shift}}}, attacker: {position}")
    assert key_of(audit) != before


INDIFFERENT = {
    "the name": ("name: audit", "name: other"),
    "the policy": ("at_most: 0.1", "at_most: 0.2"),
    "another trial": ("epsilon: [1/10, 1/4]", "epsilon: [1/10]"),
    "a default written out": ("steps: 5}", "steps: 5, restarts: 1}"),
    "another way to write a number": ("epsilon: 0.25, steps", "epsilon: 1/4, steps"),
}


@pytest.mark.parametrize(("old", "new"), INDIFFERENT.values(), ids=INDIFFERENT)
def test_what_does_not_decide_it_leaves_the_key(audit, old, new):
    before = key_of(audit)
    audit.rewrite(old, new)
    if old.startswith("epsilon: [1"):
        audit.rewrite("attack.epsilon: 0.1", "attack: fgsm")
    assert key_of(audit) == before


def test_another_revision_of_an_attack_changes_the_key(audit, monkeypatch):
    audit.rewrite(
        "  - attack: {name: pgd, epsilon: 0.25, steps: 5}",
        "  - attack: {name: fgsm, epsilon: 0.25}",
    )
    before = key_of(audit)
    monkeypatch.setattr(FGSM, "revision", FGSM.revision + 1)
    assert key_of(audit) != before


def test_the_kind_of_device_is_in_the_key_and_its_number_is_not(audit):
    def identity(device):
        plan, gates = audit.plan()
        gates.device = device
        return make_drafts(plan.spec, Problems(plan.spec.document), gates)[0].key

    assert identity("cpu") != identity("cuda")
    assert identity("cuda:0") == identity("cuda:1")


def test_batch_size_and_versions_are_not_in_the_key(audit, monkeypatch):
    before = key_of(audit)
    monkeypatch.setattr("casemate.__version__", "99")
    assert versions()["casemate"] == "99"
    assert key_of(audit) == before
    plan, _ = audit.plan()
    other = Gates(base_dir=audit.folder, batch_size=3)
    assert other.model_key(plan.trials[0].trial) == plan.trials[0].identity["model"]
