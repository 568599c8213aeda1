"""The commands that take a campaign, from init to report, on an audit in closed form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from casemate.campaign.store import Store


def masked(text: str) -> str:
    """Replace keys, which follow every change of a plugin, and estimates of time."""
    return re.sub(r"\b[0-9a-f]{12}\b", "KEY".ljust(12), text)


def test_plan_shows_each_trial_and_why(casemate, snapshot):
    outcome = casemate("plan", "audit.yaml", "--no-probe")
    assert outcome.code == 0
    assert masked(outcome.out) == snapshot
    assert not Path(".casemate").exists()  # planning writes nothing
    casemate("run", "audit.yaml", "--only", "1")
    text = Path("audit.yaml").read_text(encoding="utf-8")
    Path("audit.yaml").write_text(text.replace("steps: 5", "steps: 6"), encoding="utf-8")
    again = casemate("plan", "audit.yaml", "--no-probe").out
    assert "cached" in again
    assert "2 of 3 trials would run" in again


def test_rows_of_a_grid_over_seeds_say_which_is_which(casemate):
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("defaults: {", "defaults: {seed: [3, 4], "), encoding="utf-8")
    planned = casemate("plan", "audit.yaml", "--no-probe").out
    ran = casemate("run", "audit.yaml")
    for told in (planned, ran.out, ran.err):
        assert told.count("seed 3") == told.count("seed 4") == 3
    assert "fgsm 0.1, seed 3" in planned
    assert "trial 2 done: fgsm 0.1, seed 4" in ran.err


def test_plan_estimates(casemate):
    outcome = casemate("plan", "audit.yaml")
    assert re.search(r"estimated time here, if no sample is dropped early: about \d", outcome.out)


def test_run_tells_results_verdict_and_report(casemate, snapshot):
    outcome = casemate("run", "audit.yaml", "--json", "out.json")
    assert outcome.code == 0, outcome.err
    assert outcome.out == snapshot
    report = Path(".casemate/reports/audit.html").read_text(encoding="utf-8")
    assert "audit" in report
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert "trial 3 done" in outcome.err


def test_quiet_is_quiet_and_a_second_run_says_the_same(casemate):
    first = casemate("run", "audit.yaml", "--quiet")
    second = casemate("run", "audit.yaml", "--quiet", "--batch-size", "7")
    assert first.err == second.err == ""
    assert first.out == second.out


def test_exit_codes_of_a_policy(casemate):
    path = Path("audit.yaml")
    sound = path.read_text(encoding="utf-8")
    assert casemate("run", "audit.yaml", "-q").code == 0
    path.write_text(sound.replace("attack.epsilon: 0.1", "attack: pgd"), encoding="utf-8")
    violated = casemate("run", "audit.yaml", "-q")
    assert violated.code == 1
    assert "finding in trial 3: attack success rate: 100.0 %" in violated.out
    path.write_text(sound.replace("at_most: 0.1", "at_most: 0.01"), encoding="utf-8")
    inconclusive = casemate("run", "audit.yaml", "-q")
    assert inconclusive.code == 3
    assert "verdict: inconclusive" in inconclusive.out


def test_a_failed_trial_is_exit_code_3_and_told(casemate):
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8").replace(
        "policy:",
        "  - attack: {name: uniform-noise, epsilon: 0.1}\n"
        '    model: {function: "audited:broken", outputs: labels}\npolicy:',
    )
    path.write_text(text, encoding="utf-8")
    outcome = casemate("run", "audit.yaml")
    assert outcome.code == 3
    assert "trial 4 failed" in outcome.out
    assert "this model never answers" in outcome.out
    assert "1 of 4 trials did not finish" in outcome.out


def test_only_replays_what_the_record_says(casemate):
    import shlex

    casemate("run", "audit.yaml", "-q")
    with Store.reader(Path(".casemate")) as store:
        replay = store.campaign("audit")["trials"][1]["replay"]
    words = shlex.split(replay)
    assert words[0] == "casemate"
    whole = Path(".casemate/reports/audit.html").read_bytes()
    outcome = casemate(*words[1:], "-q")
    assert outcome.code == 0
    assert "fgsm 0.25" in outcome.out
    assert "pgd" not in outcome.out
    assert Path(".casemate/reports/audit-trial-2.html").exists()
    assert Path(".casemate/reports/audit.html").read_bytes() == whole
    assert "pgd" in casemate("report", "audit").out  # the whole campaign, as before


def test_a_reports_folder_that_cannot_be_made_is_one_sentence(casemate):
    Path(".casemate").mkdir()
    Path(".casemate/reports").write_text("in the way", encoding="utf-8")
    outcome = casemate("run", "audit.yaml", "-q")
    assert outcome.code == 2
    assert "reports cannot be made" in outcome.err
    assert "--report" in outcome.err


def test_a_store_that_another_writes_to_is_one_sentence(casemate):
    with Store(Path(".casemate"), write=True):
        outcome = casemate("run", "audit.yaml")
    assert outcome.code == 2
    assert "is writing to the store .casemate; wait for it to end" in outcome.err


def test_the_store_can_be_named_by_the_environment(casemate, monkeypatch):
    monkeypatch.setenv("CASEMATE_STORE", "elsewhere")
    assert casemate("run", "audit.yaml", "-q").code == 0
    assert Path("elsewhere/casemate.sqlite").exists()
    assert not Path(".casemate").exists()


def test_report_says_what_the_run_said_without_running(casemate, monkeypatch):
    run = casemate("run", "audit.yaml", "-q")

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("casemate.campaign.gates.Gates.evaluate", never)
    Path("by name").mkdir()
    by_spec = casemate("report", "audit.yaml")
    by_name = casemate("report", "audit", "--report", "by name/r.html", "--json", "r.json")
    assert by_spec.code == by_name.code == run.code
    assert by_spec.out == run.out
    assert Path("by name/r.html").stat().st_size > 1000
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))
    missing = casemate("report", "audti")
    assert missing.code == 2
    assert 'Did you mean "audit"?' in missing.err


def test_report_tells_not_run_from_passed(casemate):
    casemate("run", "audit.yaml", "-q", "--only", "1")
    outcome = casemate("report", "audit.yaml")
    assert outcome.code == 3
    assert outcome.out.count("not run") == 2
    assert "2 of 3 trials did not finish" in outcome.out


def test_check_lists_everything_at_once(casemate):
    sound = casemate("check", "audit.yaml")
    assert sound.code == 0, sound.err
    assert "no problem found" in sound.out
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8")
    text = text.replace("from: low", "from: lo").replace(
        'factory: "audited:make"', 'factory: "audited:make", accuracy: 0.2, outputs: probabilities'
    )
    path.write_text(text, encoding="utf-8")
    outcome = casemate("check", "audit.yaml")
    assert outcome.code == 2
    # in the specification and in the model, together
    assert "trials[1].goal" in outcome.err
    assert "0.2" in outcome.err or "20" in outcome.err
    assert len(outcome.err.strip().splitlines()) >= 3


def test_check_examines_a_trained_model_once_there_is_one(casemate):
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8").replace(
        '{factory: "audited:make"}', "{architecture: mlp, recipe: {epochs: 30}}"
    )
    path.write_text(text, encoding="utf-8")
    assert "mlp: not trained yet" in casemate("check", "audit.yaml").out
    casemate("run", "audit.yaml", "-q")
    assert "not trained yet" not in casemate("check", "audit.yaml").out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--factory", "audited:make", "--weights", "w w.safetensors", "--data", "data.npz"],
        ["--factory", "audited:make", "--data", "data.npz"],
    ],
    ids=["trained here", "own model", "own network"],
)
def test_init_writes_what_check_reads(casemate, snapshot, arguments):
    outcome = casemate("init", "new.yaml", *arguments)
    assert outcome.code == 0
    assert Path("new.yaml").read_text(encoding="utf-8") == snapshot
    again = casemate("init", "new.yaml", "--force")
    assert again.code == 0
    assert casemate("check", "new.yaml").code == 0


EVIL = "[bold red]x[/] \x1b[31mred\x1b[0m \u202ereversed\nnext"


def test_untrusted_names_reach_the_terminal_as_plain_text(casemate):
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8")
    text = text.replace("name: audit", f"name: {json.dumps(EVIL)}", 1)
    text = text.replace(
        "path: data.npz", f"path: data.npz, classes: [{json.dumps(EVIL[:15])}, high]"
    )
    text = text.replace("from: low", "from: 0")
    path.write_text(text, encoding="utf-8")
    outcome = casemate("run", "audit.yaml")
    assert outcome.code == 0, outcome.err
    assert "[bold red]x[/]" in outcome.out
    unwanted = {"\x1b", "\u202e", "\x07"}
    assert not unwanted & set(outcome.out + outcome.err)
    (report,) = Path(".casemate/reports").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.html", report.name)
    text = text.replace("fgsm, eps", json.dumps(f"fg{EVIL}") + ", eps")
    path.write_text(text, encoding="utf-8")
    refused = casemate("run", "audit.yaml")
    assert refused.code == 2
    assert not unwanted & set(refused.err)


FEW = """
casemate: 1
name: few
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 1}}
trials:
  - training: {attack: {name: badnets, size: 2}, defense: {name: i-bau}, clean: 1}
"""


def test_what_training_would_end_with_is_said_before_it(casemate):
    Path("few.yaml").write_text(FEW, encoding="utf-8")
    said = [casemate(command, "few.yaml") for command in ("check", "plan", "run")]
    assert [outcome.code for outcome in said] == [2, 2, 2]
    sentence = "trials[0].training.defense: i-bau needs at least 2 clean samples"
    assert all(sentence in outcome.err for outcome in said)
    assert not list(Path(".casemate").rglob("*.safetensors"))


def test_again_says_the_same_bit_for_bit(casemate):
    casemate("run", "audit.yaml", "-q", "--batch-size", "7")
    outcome = casemate("run", "audit.yaml", "-q", "--again")
    assert outcome.code == 0
    assert "computed again: 3 of 3 the same, bit for bit" in outcome.out


def test_again_tells_what_differs_and_ends_with_3(casemate):
    casemate("run", "audit.yaml", "-q")
    with Store(Path(".casemate"), write=True) as store:
        first, second = (store.campaign("audit")["trials"][i]["key"] for i in (0, 1))
        store.put_evidence(second, store.trial(first).evidence, 1.0, {"at": "then"})
    outcome = casemate("run", "audit.yaml", "-q", "--only", "2", "--again")
    assert outcome.code == 3
    assert "trial 2 differs from what an earlier run computed at then:" in outcome.out
    assert "attack success rate was 0.0 (n = 40) and is 1.0 (n = 40)" in outcome.out
    assert "no rule of the policy speaks of what ran" in outcome.out


def test_again_tells_what_fails_now(casemate, monkeypatch):
    from casemate.campaign.gates import Gates

    casemate("run", "audit.yaml", "-q")

    def fails(*_, **__):
        raise ValueError("late")

    monkeypatch.setattr(Gates, "evaluate", fails)
    outcome = casemate("run", "audit.yaml", "-q", "--only", "1", "--again")
    assert outcome.code == 3
    assert "trial 1 could not be computed again: ValueError: late" in outcome.out


def test_a_model_that_raises_cannot_be_timed(casemate):
    path = Path("audit.yaml")
    text = path.read_text(encoding="utf-8").replace("name: fgsm", "name: uniform-noise")
    text = text.replace('factory: "audited:make"', 'function: "audited:broken", outputs: labels')
    text = text[: text.index("  - attack: {name: pgd")] + text[text.index("policy:") :]
    path.write_text(text, encoding="utf-8")
    outcome = casemate("plan", "audit.yaml")
    assert outcome.code == 2
    assert "cannot be timed, it raised RuntimeError: this model never answers" in outcome.err
    assert "Traceback" not in outcome.err
    assert casemate("plan", "audit.yaml", "--no-probe").code == 0


def test_odd_digits_are_no_trial(casemate):
    outcome = casemate("run", "audit.yaml", "--only", "\N{SUPERSCRIPT TWO}")
    assert outcome.code == 2
    assert "no trial has the number or key" in outcome.err


def test_sizes_have_reports_of_their_own(casemate):
    casemate("run", "audit.yaml", "-q", "--size", "small")
    assert Path(".casemate/reports/audit-small.html").exists()
    assert not Path(".casemate/reports/audit.html").exists()


def test_a_trial_without_an_attack_shows_accuracy_and_what_its_verdict_is_about(casemate, folder):
    (folder / "clean.yaml").write_text("""
casemate: 1
name: clean
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 1}}
trials:
  - training: {}
    samples: [50, 100]
policy:
  - {measure: clean accuracy, at_least: 0, where: {samples: 50}}
  - {measure: accuracy without the attack, at_most: 0, where: {samples: 100}}
  - {measure: clean accuracy, at_least: 0, where: {samples: 100}}
""")
    rows = casemate("run", "clean.yaml", "--quiet").out.splitlines()
    (first,), (second,) = ([r for r in rows if f" {n}  clean accuracy " in r] for n in (50, 100))
    assert first.endswith("  pass")  # the rule is about the figure in the row
    assert "  fail: accuracy" in second
    assert not any("not measured" in r for r in rows)
