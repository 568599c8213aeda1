from __future__ import annotations

import subprocess
import sys

import pytest

import casemate as package

COMMANDS = ["init", "check", "plan", "run", "report", "list", "threats", "data", "schema"]


def test_help_names_every_command(casemate, snapshot):
    outcome = casemate("--help")
    assert outcome.code == 0
    assert outcome.out == snapshot
    listed = outcome.out.partition("Commands:")[2].split()
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(casemate, command):
    outcome = casemate(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: casemate {command}")


def test_version(casemate):
    outcome = casemate("--version")
    assert (outcome.code, outcome.out) == (0, f"casemate {package.__version__}")


def test_help_imports_nothing_heavy():
    code = """
import sys
from casemate.cli.main import main
assert main(["--help"]) == 0
heavy = {"torch", "scipy", "sklearn", "matplotlib", "pandas", "pydantic", "numpy", "yaml", "PIL"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml does not exist; write one with: casemate init"),
        (["run", "study:digits-demon"], 'no study "digits-demon". Did you mean "digits-demo"?'),
        (["run", "audit.yaml", "--size", "smal"], 'Did you mean "small"?'),
        (["run", "audit.yaml", "--only", "77"], 'no trial has the number or key "77"'),
        (["run", "audit.yaml", "--device", "tpu9"], 'the device "tpu9" cannot be used'),
        (["run", "audit.yaml", "--store", "audit.yaml"], "the store audit.yaml cannot be used"),
        (["report", "audit"], "there is no store at .casemate; run a campaign first"),
        (["list", "atacks"], 'Did you mean "attacks"?'),
        (["data", "get", "mnits"], 'Did you mean "mnist"?'),
        (["threats", "--id", "NISTAML.0222"], 'Did you mean "NISTAML.022"?'),
        (["init", "audit.yaml"], "audit.yaml exists already; overwrite it with --force"),
        (["init", "x.yaml", "--weights", "w"], "--weights needs --factory"),
        (["init", "no/folder/x.yaml"], "cannot be written"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_code_2(casemate, arguments, message):
    outcome = casemate(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "arguments", [["rum"], ["run"], ["run", "a", "b"], ["run", "a", "--batch-size", "0"]]
)
def test_a_wrong_call_is_exit_code_2(casemate, arguments):
    outcome = casemate(*arguments)
    assert outcome.code == 2
    assert "Error" in outcome.err


def test_an_interrupt_says_that_nothing_is_lost(casemate, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("casemate.campaign.run.run_plan", interrupted)
    outcome = casemate("run", "audit.yaml")
    assert outcome.code == 130
    assert "finished trials and trained models are kept; run again to go on" in outcome.err


def test_a_defect_of_ours_keeps_its_traceback(casemate, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("casemate.campaign.run.run_plan", broken)
    outcome = casemate("run", "audit.yaml")
    assert outcome.code == 70  # neither a verdict nor the user's mistake
    assert "ZeroDivisionError" in outcome.err
    assert "Traceback" in outcome.err
    assert outcome.err.rstrip().endswith("please report it")
