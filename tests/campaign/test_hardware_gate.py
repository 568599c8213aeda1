"""The hardware gate of a campaign: read, checked as a whole, planned and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from casemate.campaign.assemble import Replay, assemble, stored_frame
from casemate.campaign.document import parse_document
from casemate.campaign.events import TrialRepeated
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.errors import UsageError
from casemate.evidence import Verdict
from casemate.report import html

HEAD = """
casemate: 1
name: chip
data: {source: digits}
model: {architecture: mlp, recipe: {epochs: 4, precision: float32}}
"""
FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()

def one():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9)).eval()
"""


def read(text, head=HEAD):
    return read_spec(parse_document(f"{head}{text}", "c.yaml"), base_dir=Path())


def planned(text, store=None, head=HEAD, folder=None):
    spec, problems = read_spec(parse_document(f"{head}{text}", "c.yaml"), base_dir=folder or Path())
    gates = Gates(base_dir=folder or Path())
    return make_plan(spec, problems, gates, store), gates


def wrong(text, head=HEAD, folder=None):
    with pytest.raises(UsageError) as found:
        planned(text, head=head, folder=folder)
    return str(found.value)


def run(text, folder, *listeners, head=HEAD, base=None, again=False):
    with Store(folder, write=True) as store:
        plan, gates = planned(text, store, head, base)
        replay = Replay(source="c.yaml")
        return run_plan(plan, store, gates, replay=replay, listeners=listeners, again=again)


def trial(text):
    return f"trials:\n  - {text}\n"


def figures(record, i=0):
    return {m.name: m.value for m in record.trials[i].evidence.measurements}


def test_the_gate_is_a_grid_like_everything_else():
    spec, problems = read(
        trial(
            "hardware: {format: [float32, {name: [int8, int4], granularity: tensor}], "
            "attack: [null, {name: bit-errors, rate: [1e-3, 1e-2]}], "
            "defense: [null, {name: secded}], rowhammer: [null, {profile: A_2}]}"
        )
    )
    assert not problems
    gates = [t.hardware for t in spec.trials]
    assert len(gates) == 3 * 3 * 2 * 2
    assert {g.format.name for g in gates} == {"float32", "int8", "int4"}
    assert {g.format.granularity for g in gates if g.format.name == "int8"} == {"tensor"}
    assert {g.rowhammer and g.rowhammer.profile for g in gates} == {None, "A_2"}
    assert {t.options.samples for t in spec.trials} == {1000}


def test_a_default_gate_is_completed_by_the_trial():
    spec, problems = read(
        "defaults: {hardware: {format: int8, defense: {name: secded}}}\n"
        "trials: [{hardware: {attack: {name: random-flips}}}, {hardware: {defense: null}}]\n"
    )
    assert not problems
    first, second = (t.hardware for t in spec.trials)
    assert (first.format.name, first.attack.name, first.defense.name) == (
        "int8",
        "random-flips",
        "secded",
    )
    assert (second.format.name, second.defense) == ("int8", None)


def test_every_setting_of_the_gate_makes_another_key():
    plan, _ = planned(
        "trials:\n"
        + "".join(
            f"  - {{hardware: {{{more}}}}}\n"
            for more in (
                "",
                "format: int8",
                "format: {name: int8, granularity: tensor}",
                "attack: {name: random-flips, budget: 5}",
                "attack: {name: random-flips, budget: 6}",
                "defense: {name: secded}",
                "attack: {name: random-flips, budget: 5}, defense: {name: secded}",
                (
                    "attack: {name: random-flips, budget: 5}, defense: {name: secded}, "
                    "attacker: unaware"
                ),
                "calibration: 100",
                "inputs: 100",
                "rowhammer: {profile: A_2}",
                "rowhammer: {profile: A_2, per_page: 2}",
            )
        )
        + "  - {samples: 100, hardware: {}}\n"
    )
    assert len({p.key for p in plan.trials}) == len(plan.trials) == 13
    assert {p.identity["model"] for p in plan.trials} == {plan.trials[0].identity["model"]}


def test_a_limit_of_memory_makes_no_other_key():
    keys = {
        planned(trial(f"{{hardware: {{format: int8, memory_limit: {n}}}}}"))[0].trials[0].key
        for n in (1000, 2000)
    }
    assert len(keys) == 1
    attack = "attack: {name: random-faults}"
    said = wrong(trial(f"{{hardware: {{format: int8, memory_limit: 3, {attack}}}}}"))
    assert "memory_limit is 3 MiB, but one image at a time takes" in said


@pytest.mark.parametrize("more", ["format: []", "format: {name: []}", "memory_limit: []"])
def test_a_list_without_entries_is_no_campaign_without_trials(more):
    said = wrong(trial(f"{{hardware: {{{more}}}}}"))
    assert "holds an empty list, which makes no trial; remove it or fill it" in said


def test_a_measured_template_counts_by_its_content(tmp_path):
    text = trial("{hardware: {format: int8, rowhammer: {file: cells.csv, profile: [A_2, B_1]}}}")
    keys = []
    for folder, bit in (("one", 5), ("two", 5), ("three", 6)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cells.csv").write_text(
            f"# 40 pages of 4096 bytes\npage,offset,bit,direction\n1,900,{bit},1->0\n", "ascii"
        )
        plan, _ = planned(text, folder=tmp_path / folder)
        assert len({p.key for p in plan.trials}) == 1  # the profile is of no consequence
        keys.append(plan.trials[0].key)
        assert plan.trials[0].settings["hardware"]["rowhammer"]["file"] == "cells.csv"
        assert str(tmp_path) not in str(plan.trials[0].settings)
    assert keys[0] == keys[1] != keys[2]
    said = wrong(trial("{hardware: {rowhammer: {file: gone.csv}}}"), folder=tmp_path)
    assert "gone.csv is no file" in said


def test_a_committee_is_refused_beside_a_trial_that_has_none():
    text = "{training: [null, {defense: {name: partition-aggregation}}], hardware: {}}"
    assert "partition-aggregation makes a committee" in wrong(trial(text))


def test_chance_knows_no_defense():
    plan, _ = planned(
        trial(
            "hardware: {attack: {name: bit-errors, rate: 1e-3}, defense: {name: secded}, "
            "attacker: [aware, unaware]}"
        )
    )
    assert len({p.key for p in plan.trials}) == 1


def test_campaigns_without_the_gate_keep_their_keys():
    with_it, _ = planned("trials: [{attack: {name: fgsm}, samples: 20}, {hardware: {}}]\n")
    without, _ = planned("trials: [{attack: {name: fgsm}, samples: 20}]\n")
    assert with_it.trials[0].key == without.trials[0].key
    assert "hardware" not in with_it.trials[0].settings


def test_a_deployed_model_is_attacked_measured_and_reported(tmp_path):
    text = (
        "policy: [{measure: accuracy under attack, at_least: 0.9, "
        "where: {hardware.attack: bfa, hardware.format.name: int8}}]\n"
        "trials:\n"
        "  - hardware: {format: int8, attack: {name: bfa, budget: 12, level: 0.3, "
        "objective: sigmoid margin}, defense: [null, {name: triplication}], "
        "attacker: [aware, unaware]}\n"
        "  - hardware: {attack: [{name: random-faults, budget: 400}, "
        "{name: bit-errors, rate: [1e-4, 1e-3], draws: 4}]}\n"
    )
    record = run(text, tmp_path / "store")
    # without a defense the attackers are one, and counted once
    assert [t.number for t in record.trials] == [1, 3, 4, 5, 6, 7]
    assert [t.status for t in record.trials] == ["finished"] * 6
    threats = {t.threat for t in record.trials}
    assert threats == {"hardware-faults"}
    plain, aware, unaware = (figures(record, i) for i in range(3))
    assert plain["accuracy under attack"] < unaware["accuracy under attack"] - 0.2
    assert aware["accuracy under attack"] == plain["accuracy under attack"]
    assert {f.trial for f in record.findings} == {1, 3}
    assert "with triplication (aware attacker)" in record.findings[-1].title
    rows = record.trials[0].evidence.samples
    assert len(np.unique(rows["row"])) == len(rows["row"]) == 359
    page = html.page(record)
    for words in (
        "Deployed models",
        "Accuracy under bit errors",
        "Accuracy under flipped bits: int8",
        "Where one fault hurts: <bdi>float32, random-faults",
        "attacker aware of it",
    ):
        assert words in page


def test_upsets_and_faults_of_other_kinds_are_trials_too(tmp_path):
    text = trial(
        "hardware: {format: int8, defense: {name: product-checksums}, attack: ["
        "{name: random-upsets, where: [sum], budget: 200}, "
        '{name: random-faults, kind: ["stuck at 1", burst], budget: 400}]}'
    )
    record = run(text, tmp_path / "store")
    assert [t.status for t in record.trials] == ["finished"] * 3
    upsets, stuck, burst = (figures(record, i) for i in range(3))
    assert upsets["faults detected"] == 1  # integers must agree
    assert "faults repaired" not in upsets
    assert stuck["mean corruption"] != burst["mean corruption"]
    page = html.page(record)
    for words in ("random-upsets, product-checksums", "kind stuck at 1", ">sum</td>"):
        assert words in page


def test_without_a_defense_nobody_knows_it():
    plan, _ = planned(trial("hardware: {attack: {name: random-flips}, attacker: [aware, unaware]}"))
    (only,) = plan.trials
    assert only.settings["hardware"]["attacker"] is None


def test_a_trial_computed_again_is_the_same(tmp_path):
    seen = []
    text = trial(
        "hardware: {format: int8, attack: [{name: bfa, budget: 3}, {name: random-faults, "
        "budget: 400}, {name: bit-errors, rate: 1e-3, draws: 3}]}"
    )
    first = run(text, tmp_path / "store")
    run(text, tmp_path / "store", seen.append, again=True)
    repeated = [e for e in seen if isinstance(e, TrialRepeated)]
    assert len(repeated) == 3
    assert not any(e.differences for e in repeated)
    with Store(tmp_path / "store", write=False) as store:
        for made in first.trials:
            assert store.trial(made.key).evidence.tables == made.evidence.tables


def test_a_users_own_model_is_deployed_as_it_is(tmp_path):
    (tmp_path / "chip_net.py").write_text(FACTORY, encoding="utf-8")
    head = HEAD.replace(
        "{architecture: mlp, recipe: {epochs: 4, precision: float32}}", '{factory: "chip_net:make"}'
    )
    text = trial("{samples: 200, hardware: {format: int8, attack: {name: bfa, budget: 2}}}")
    record = run(text, tmp_path / "store", head=head, base=tmp_path)
    (made,) = record.trials
    assert made.status == "finished", made.error
    assert len(made.evidence.samples["row"]) == 200
    assert made.evidence.notes["inputs to calibrate on"] == 79
    assert made.evidence.notes["inputs of the attacker"] == 80
    said = wrong(trial("{hardware: {format: int8}}"), head, tmp_path)
    assert "samples takes all 359 of digits" in said
    assert "set samples to at most 179" in said
    said = wrong(trial("{samples: 50, hardware: {}}"), head.replace("make", "one"), tmp_path)
    assert "gives a row of 10 scores, one a class, but this one gives 9" in said


def test_a_poisoned_model_is_deployed_after_its_training(tmp_path):
    text = trial(
        "{training: {attack: {name: label-flips, amount: {percent: 60}}}, "
        "hardware: {format: int8}, samples: 100}"
    )
    record = run(f"{text}  - {{hardware: {{format: int8}}, samples: 100}}\n", tmp_path / "store")
    assert figures(record, 0)["clean accuracy"] < figures(record, 1)["clean accuracy"]
    assert record.trials[0].control
    assert record.trials[0].settings["training"]["attack"]["name"] == "label-flips"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hardware: {fromat: int8}", 'there is no key "fromat" under hardware. Did you mean'),
        ("hardware: {format: int9}", '"int9" must be'),
        ("hardware: {format: {name: int8, granularity: row}}", "granularity"),
        ("hardware: {attack: {name: badnets}}", "badnets acts at training; name it under training"),
        ("hardware: {attack: {name: fgsm}}", "fgsm acts at inference; name it in the trial"),
        ("training: {attack: {name: bfa}}", "bfa acts at hardware; name it under hardware"),
        ("attack: {name: bfa}", "bfa acts at hardware; name it under hardware"),
        ("{attack: {name: fgsm}, hardware: {}}", "a trial with hardware ends with the deployed"),
        ("{defense: {name: median}, hardware: {}}", "a trial with hardware ends with the deployed"),
        ("{goal: {to: 1}, hardware: {}}", "this trial ends with the deployed model"),
        ("hardware: {attacker: blind}", "attacker"),
        ("hardware: {inputs: 0}", "is 0, but must be at least 1"),
        ("hardware: {rowhammer: {profile: Z}}", 'has no "Z"'),
        ("hardware: {rowhammer: {pages: 1}}", "pages is 1, but the deployed model takes"),
        ("hardware: {attack: {name: bfa, budget: 0}}", "attack.budget: must be a whole number"),
        ("hardware: {attack: {name: bfa, layers: [conv9]}}", 'has no layer "conv9"'),
        ("hardware: {attack: {name: t-bfa, target: 12}}", "the labels 0 to 9"),
        ("hardware: {attack: {name: bit-errors, rate: 2}}", "attack.rate: must be a number"),
        ("hardware: {attack: {name: bit-errors}}", "rate"),
        ("hardware: {format: float16, defense: {name: radar}}", "radar needs weights of eight"),
        ("hardware: {format: int8, defense: {name: ranger}}", "ranger restricts activations"),
        (
            "{training: {defense: {name: partition-aggregation}}, hardware: {}}",
            "partition-aggregation makes a committee",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence_before_anything_runs(text, words):
    said = wrong(trial(text if text.startswith("{") else f"{{{text}}}"))
    assert words in said
    assert "c.yaml" in said
    assert "Traceback" not in said


def test_a_rule_on_what_the_gate_cannot_measure_is_refused():
    said = wrong(
        "policy: [{measure: mean corruption, at_most: 0.1}]\n"
        "trials: [{hardware: {attack: {name: bfa}}}]\n"
    )
    assert "random-faults or random-upsets as the attack under hardware" in said
    said = wrong(
        "policy: [{measure: accuracy under attack, at_least: 0.9, where: {attack: bfa}}]\n"
        "trials: [{hardware: {attack: {name: bfa}}}]\n"
    )
    assert "this stands at hardware; write hardware.attack" in said


def test_a_rule_speaks_only_of_trials_that_can_measure_it(tmp_path):
    text = (
        "policy: [{measure: accuracy under attack, at_least: 0}]\n"
        "trials:\n"
        "  - hardware: {attack: [null, {name: random-faults, budget: 300}, "
        "{name: random-flips, budget: 2}]}\n"
    )
    record = run(text, tmp_path / "store")
    assert [t.verdict for t in record.trials] == [None, None, Verdict.PASS]
    assert [t.rules for t in record.trials] == [(), (), (0,)]
    with Store(tmp_path / "store", write=False) as store:
        again = assemble(stored_frame(store, "chip"), store)
    assert [t.rules for t in again.trials] == [(), (), (0,)]
