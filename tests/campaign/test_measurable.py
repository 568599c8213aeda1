"""A rule on what no trial can measure is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.gates import Gates
from casemate.campaign.measurable import measures_of, needs
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.errors import UsageError
from casemate.evidence import AT_HARDWARE, AT_INFERENCE, MEASURES

HEAD = """
casemate: 1
name: rules
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 1, batch_size: 32}}
"""
ATTACK = "attack: {name: badnets, size: 2}"
TRIALS = f"""trials:
  - {{attack: {{name: uniform-noise}}, samples: 20}}
  - {{attack: {{name: fgsm}}, goal: {{to: 3}}, samples: 20}}
  - {{training: {{}}, samples: 40}}
  - {{training: {{defense: {{name: near-duplicates}}}}, samples: 40}}
  - training: {{{ATTACK}, defense: {{name: near-duplicates}}}}
    samples: 210
  - training: {{{ATTACK}, defense: {{name: anti-backdoor}}}}
    model: {{architecture: lenet, recipe: {{epochs: 2}}}}
  - training: {{{ATTACK}, clean: 200}}
    monitor: {{name: strip}}
  - training: {{attack: {{name: label-flips, kind: class, source: 1, target: 7}}}}
  - training: {{attack: {{name: input-noise}}, defense: {{name: fine-tuning}}, clean: 50}}
  - training: {{{ATTACK}, defense: {{name: partition-aggregation, partitions: 3}}}}
  - samples: 40
    hardware:
      format: int8
      attack: [null, {{name: bfa, budget: 2}}, {{name: bit-errors, rate: 0.01, draws: 2}}]
      defense: [null, {{name: secded}}, {{name: product-checksums}}]
  - samples: 40
    hardware: {{attack: {{name: tbt, target: 1, neurons: 2, size: 2, trigger_steps: 2}}}}
  - samples: 40
    hardware:
      attack: {{name: random-faults, budget: 400}}
      defense: [{{name: ranger}}, {{name: triplication}}]
"""


def planned(text, store=None):
    spec, problems = read_spec(parse_document(f"{HEAD}{text}", "c.yaml"), base_dir=Path())
    gates = Gates(base_dir=Path())
    return make_plan(spec, problems, gates, store), gates


def refused(policy, trials):
    with pytest.raises(UsageError) as found:
        planned(f"policy: [{policy}]\ntrials: [{trials}]\n")
    return str(found.value)


def test_whatever_trials_measure_is_what_they_can_measure(tmp_path):
    with Store(tmp_path / "store", write=True) as store:
        plan, gates = planned(TRIALS, store)
        record = run_plan(plan, store, gates, replay=Replay(source="c.yaml"))
    seen = set()
    for trial, made in zip(plan.trials, record.trials, strict=True):
        can = measures_of(trial.trial, classes=10)
        found = {m.name for m in made.evidence.measurements if m.value is not None}
        assert found <= can, (made.number, found - can)
        assert can <= set(MEASURES)
        named = {m.name for m in made.evidence.measurements}
        assert can <= named | {"area under the curve"}, (made.number, can - named)
        seen |= found
    judging = {"backdoor flagged", "backdoor target named", "backdoor flagged falsely", "epsilon"}
    assert set(MEASURES) - seen <= judging | {"top-5 accuracy under attack"}


@pytest.mark.parametrize(
    ("measure", "trial", "words"),
    [
        (
            "precision of removal",
            f"{{training: {{{ATTACK}}}}}",
            "such as near-duplicates, in a trial without an attack at inference; add it, or remove",
        ),
        ("precision of removal", "{attack: {name: fgsm}}", "a defense under training"),
        (
            "precision of removal",
            "{training: {defense: {name: robust-loss}}}",
            "a defense under training that removes",
        ),
        (
            "recall of removal",
            "{training: {defense: {name: near-duplicates}}}",
            "an attack under training, and a defense",
        ),
        (
            "clean accuracy drop",
            f"{{training: {{{ATTACK}}}, attack: {{name: fgsm}}}}",
            "takes training, in a trial without an attack at inference",
        ),
        (
            "backdoor flagged",
            "{training: {defense: {name: neural-cleanse}, clean: 50}}",
            "and an attack with a trigger",
        ),
        ("attack success rate", "{training: {}}", "takes an attack; add it"),
        ("monitor detection", f"{{training: {{{ATTACK}}}}}", "takes a monitor"),
        ("epsilon", f"{{training: {{{ATTACK}}}}}", "takes private-training"),
        ("accuracy under attack", f"{{training: {{{ATTACK}}}}}", "takes an attack at inference;"),
        ("confidence in target class, clean", "{attack: {name: fgsm}}", "takes a goal"),
        (
            "detection by classes with triggers",
            "{training: {attack: {name: label-flips}}}",
            "takes an attack under training with a trigger",
        ),
    ],
)
def test_a_rule_on_what_no_trial_measures_is_refused(measure, trial, words):
    found = refused(f"{{measure: '{measure}', at_least: 0.5}}", trial)
    assert found.startswith(
        f'c.yaml, line 6, policy[0].measure: no trial can measure "{measure}", so the rule checks '
        "nothing: that "
    )
    assert words in found


def test_only_the_trials_that_the_rule_speaks_of_count():
    grid = f"{{training: {{{ATTACK}, defense: [null, {{name: near-duplicates}}]}}}}"
    rule = "{measure: precision of removal, at_least: 0.5"
    planned(f"policy: [{rule}}}]\ntrials: [{grid}]\n")
    assert "no trial that it speaks of can measure" in refused(
        f"{rule}, where: {{training.defense: null}}}}", grid
    )


def test_every_measure_has_words():
    words = {m: needs(m) for m in MEASURES}
    assert {m for m, w in words.items() if w == "an attack at inference"} == {
        "clean accuracy",
        "accuracy under attack",
        "confidence in true class, clean",
        "confidence in true class, attacked",
    }
    assert all(
        m in AT_INFERENCE or m in AT_HARDWARE or "without an attack at" in w
        for m, w in words.items()
    )
    assert all("hardware" in words[m] for m in AT_HARDWARE)
