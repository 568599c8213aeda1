from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from casemate.campaign import events
from casemate.campaign.assemble import assemble, stored_frame
from casemate.campaign.encoding import encode_evidence
from casemate.campaign.store import Store
from casemate.errors import StoreError
from casemate.evidence import Verdict


class Listener:
    def __init__(self):
        self.heard = []

    def __call__(self, event):
        self.heard.append(event)

    def of(self, kind):
        return [e for e in self.heard if isinstance(e, kind)]


def encoded(record):
    return [encode_evidence(t.evidence) for t in record.trials]


def test_the_closed_form_comes_out(audit):
    record = audit.run()
    rates = [t.evidence["attack success rate"].value for t in record.trials]
    assert rates == [0.0, 1.0, 1.0]
    assert [t.status for t in record.trials] == ["finished"] * 3
    # 0 of 40 leaves up to 8.8 %, within the limit; the other trials are not the policy's business
    assert [t.verdict for t in record.trials] == [Verdict.PASS, None, None]
    assert (record.verdict, record.exit_code) == (Verdict.PASS, 0)
    assert record.models[0]["accuracy"]["value"] == 1.0
    assert record.models[0]["digest"] == record.trials[0].settings["model_digest"]
    assert record.trials[2].settings["goal"] == {"from": "low", "to": "high"}


def test_the_declared_accuracy_does_not_pass_for_the_measured_one(audit):
    audit.rewrite('"audited:make"', '"audited:make", accuracy: 0.5')
    (model,) = audit.run().models
    assert model["accuracy"]["value"] == 1.0
    assert model["declared accuracy"] == 0.5


def test_a_violated_policy_is_a_finding_worst_first(audit):
    audit.rewrite("{attack.epsilon: 0.1}", "{attack: [fgsm, pgd]}")
    record = audit.run()
    assert (record.verdict, record.exit_code) == (Verdict.FAIL, 1)
    assert [f.trial for f in record.findings] == [2, 3]
    assert "100.0 %" in record.findings[0].message
    assert record.findings[0].rule["at_most"] == 0.1


def test_too_few_samples_are_inconclusive(audit):
    audit.rewrite("samples: 40", "samples: 10")
    record = audit.run()
    assert (record.verdict, record.exit_code) == (Verdict.INCONCLUSIVE, 3)
    assert "more samples would settle it" in record.trials[0].reasons[0]


def test_the_second_run_computes_nothing_and_says_the_same(audit):
    first = audit.run()
    listener = Listener()
    second = audit.run(listener)
    assert listener.of(events.TrialStarted) == []
    assert listener.of(events.CampaignStarted)[0].cached == 3
    assert encoded(first) == encoded(second)
    assert [t.seconds for t in first.trials] == [t.seconds for t in second.trials]


def test_computed_again_nothing_changes_and_it_is_said(audit):
    first = audit.run()
    listener = Listener()
    second = audit.run(listener, again=True)
    assert [e.number for e in listener.of(events.TrialStarted)] == [1, 2, 3]
    assert listener.of(events.TrialFinished) == []
    repeated = listener.of(events.TrialRepeated)
    assert [(e.number, e.differences) for e in repeated] == [(n, ()) for n in (1, 2, 3)]
    assert [e.made for e in repeated] == [t.made for t in first.trials]
    assert encoded(first) == encoded(second)
    assert [t.made for t in second.trials] == [t.made for t in first.trials]


def test_computed_again_a_difference_is_told_and_the_store_stays(audit):
    first = audit.run()
    with Store(audit.store, write=True) as store:
        other = replace(
            first.trials[1].evidence,
            measurements=first.trials[0].evidence.measurements,
        )
        store.put_evidence(first.trials[1].key, other, 1.0, {"at": "then"})
    listener = Listener()
    record = audit.run(listener, again=True, only="2")
    (repeated,) = listener.of(events.TrialRepeated)
    assert repeated.made == {"at": "then"}
    assert "attack success rate was 0.0 (n = 40) and is 1.0 (n = 40)" in repeated.differences
    assert encode_evidence(record.trials[0].evidence) == encode_evidence(other)


def test_what_is_missing_is_kept_also_when_computed_again(audit):
    audit.run(only="2")
    listener = Listener()
    audit.run(listener, again=True)
    assert [e.number for e in listener.of(events.TrialRepeated)] == [2]
    assert [e.record.number for e in listener.of(events.TrialFinished)] == [1, 3]
    assert all(t.evidence for t in audit.run().trials)


def test_each_trial_keeps_where_it_comes_from(audit, monkeypatch):
    from casemate.campaign import provenance

    audit.run(only="2")
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "9.9"})
    record = audit.run()
    assert [t.made["versions"].get("torch") == "9.9" for t in record.trials] == [True, False, True]
    assert record.provenance["versions"] == {"torch": "9.9"}
    assert all(t.made["hardware"]["device"] == "cpu" for t in record.trials)
    assert all(t.made["at"] >= record.provenance["started"] for t in record.trials[::2])


def test_events_tell_the_whole_story_in_order(audit):
    listener = Listener()
    record = audit.run(listener)
    kinds = [type(e).__name__ for e in listener.heard if not isinstance(e, events.TrialProgressed)]
    assert kinds[0] == "CampaignStarted"
    assert kinds[-1] == "CampaignFinished"
    assert kinds.count("TrialStarted") == kinds.count("TrialFinished") == 3
    assert kinds.index("ModelMeasuring") > kinds.index("TrialStarted")
    progress = [(e.number, e.done, e.total) for e in listener.of(events.TrialProgressed)]
    assert {n for n, _, _ in progress} == {1, 2, 3}
    assert all(0 <= done <= total for _, done, total in progress)
    assert listener.of(events.CampaignFinished)[0].record is record


def test_only_one_trial(audit):
    record = audit.run(only="2")
    assert [t.number for t in record.trials] == [2]
    listener = Listener()
    audit.run(listener)
    assert [e.number for e in listener.of(events.TrialStarted)] == [1, 3]


def test_a_failing_trial_is_recorded_and_the_others_go_on(audit):
    audit.rewrite(
        "policy:",
        "  - attack: {name: uniform-noise, epsilon: [0.1, 0.2]}\n"
        '    model: {function: "audited:broken", outputs: labels}\npolicy:',
    )
    listener = Listener()
    record = audit.run(listener)
    assert [t.status for t in record.trials] == ["finished"] * 3 + ["failed"] * 2
    failed = record.trials[3]
    assert "this model never answers" in failed.error
    assert "\n" not in failed.error
    assert "audited.py" in failed.traceback
    assert failed.evidence is None
    assert record.exit_code == 3
    assert [e.record.number for e in listener.of(events.TrialFailed)] == [4, 5]
    # mended, they run; nothing else does
    audit.rewrite("audited:broken", "audited:decide")
    again = Listener()
    record = audit.run(again)
    assert [e.number for e in again.of(events.TrialStarted)] == [4, 5]
    assert record.exit_code == 0


def test_a_failure_is_tried_again(audit, monkeypatch):
    from casemate.campaign.gates import Gates

    real = Gates.evaluate

    def fails(self, trial, *rest, **options):
        if trial.number == 2:
            raise ZeroDivisionError("no luck")
        return real(self, trial, *rest, **options)

    monkeypatch.setattr(Gates, "evaluate", fails)
    record = audit.run()
    assert record.trials[1].error.startswith(
        "ZeroDivisionError: no luck (raised at test_run.py, line "
    )
    monkeypatch.setattr(Gates, "evaluate", real)
    listener = Listener()
    assert audit.run(listener).exit_code == 0
    assert [e.number for e in listener.of(events.TrialStarted)] == [2]


def test_an_interrupt_keeps_what_is_computed(audit):
    def interrupt(event):
        if isinstance(event, events.TrialStarted) and event.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit.run(interrupt)
    listener = Listener()
    record = audit.run(listener)
    assert [e.number for e in listener.of(events.TrialStarted)] == [3]
    assert record.exit_code == 0


def test_a_store_that_fails_ends_the_campaign(audit, monkeypatch):
    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "put_evidence", full)
    with pytest.raises(StoreError, match="full"):
        audit.run()


def test_a_trained_model_is_trained_once_and_the_same_after_a_restart(audit):
    audit.rewrite('{factory: "audited:make"}', "{architecture: mlp, recipe: {epochs: 2}}")
    listener = Listener()
    whole = audit.run(listener)
    assert [e.cached for e in listener.of(events.ModelReady)] == [False]
    training = listener.of(events.ModelTraining)
    assert training[-1].done == training[-1].total
    audit.store = audit.folder / "parts"
    for number in "312":
        audit.run(only=number)
    listener = Listener()
    assert encoded(audit.run(listener)) == encoded(whole)
    assert listener.of(events.ModelTraining) == []


def test_a_campaign_is_told_again_by_its_name(audit):
    record = audit.run()
    with Store.reader(audit.store) as store:
        frame = stored_frame(store, "audit")
        told = assemble(frame, store)
        assert stored_frame(store, "none") is None
    assert encoded(told) == encoded(record)
    assert told.verdict is record.verdict
    assert told.models == record.models
    assert told.provenance == json.loads(json.dumps(record.provenance))


def test_evidence_holds_no_wall_time_and_the_record_is_plain(audit):
    record = audit.run()
    for trial in record.trials:
        text, _ = encode_evidence(trial.evidence)
        assert "second" not in text
    plain = asdict(record)
    for trial in plain["trials"]:
        trial.pop("evidence")
    json.dumps(plain)
    versions = record.provenance["versions"]
    assert {"casemate", "python", "torch", "numpy"} <= versions.keys()


def test_the_replay_command_is_quoted_for_the_shell():
    import shlex

    from casemate.campaign.assemble import Replay

    replay = Replay(source="my file; rm -rf $HOME.yaml", size="a b", store="s'x", device=None)
    command = replay.command("0123456789abcdef")
    assert shlex.split(command) == [
        "casemate", "run", "my file; rm -rf $HOME.yaml", "--size", "a b", "--store", "s'x",
        "--only", "0123456789ab", "--again",
    ]  # fmt: skip


def test_a_model_that_exits_is_a_failed_trial(audit):
    module = audit.folder / "audited.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(
        text.replace('raise RuntimeError("this model never answers")', 'raise SystemExit("bye")'),
        encoding="utf-8",
    )
    audit.rewrite(
        "policy:",
        "  - attack: {name: uniform-noise, epsilon: 0.1}\n"
        '    model: {function: "audited:broken", outputs: labels}\npolicy:',
    )
    record = audit.run()
    assert [t.status for t in record.trials] == ["finished"] * 3 + ["failed"]
    assert record.trials[3].error.startswith("SystemExit: bye (raised at audited.py, line ")


def test_attacked_again_also_where_other_trials_left_examples(audit, shift, monkeypatch):
    from casemate.inference import examples

    audit.rewrite(
        "  - attack: {name: pgd",
        f"  - {{attack: {{name: fgsm}}, defense: {{name: {shift}}}, attacker: before}}\n"
        "  - attack: {name: pgd",
    )
    crafted = []
    real = examples.craft

    def watched(attack, *rest, **options):
        crafted.append(type(attack).__name__)
        return real(attack, *rest, **options)

    monkeypatch.setattr(examples, "craft", watched)
    audit.run()
    crafted.clear()
    listener = Listener()
    audit.run(listener, again=True, only="3")
    assert crafted == ["FGSM"]
    assert [e.differences for e in listener.of(events.TrialRepeated)] == [()]


def test_what_a_trial_borrowed_says_where_it_comes_from(audit):
    audit.rewrite(
        'model: {factory: "audited:make"}', "model: {architecture: mlp, recipe: {epochs: 1}}"
    )
    audit.rewrite(", where: {attack.epsilon: 0.1}", "")
    record = audit.run()
    origins = {t.made["model"]["at"] for t in record.trials}
    assert len(origins) == 1
    assert all(t.made["model"]["versions"] == t.made["versions"] for t in record.trials)
    assert record.provenance["hashes"]["data"].keys() == {"npz/train", "npz/test"}


def test_only_noise_is_no_pass(audit):
    audit.rewrite("attack: {name: fgsm, epsilon: [1/10, 1/4]}", "attack: {name: fgsm}")
    audit.rewrite("policy:", "  - attack: {name: uniform-noise, epsilon: 0.1}\npolicy:")
    audit.rewrite("attack.epsilon: 0.1", "attack: uniform-noise")
    record = audit.run()
    assert [t.verdict for t in record.trials if t.control] == [Verdict.PASS]
    assert (record.verdict, record.exit_code) == (Verdict.INCONCLUSIVE, 3)
    assert "no attacker was judged" in record.doubts[0]


def test_a_model_far_below_what_is_declared_is_no_pass(audit):
    audit.rewrite('"audited:make"', '"audited:wrong", accuracy: 1.0')
    module = audit.folder / "audited.py"
    module.write_text(
        module.read_text(encoding="utf-8")
        + "\ndef wrong():\n    model = make()\n    with torch.no_grad():\n"
        "        model.bias.add_(torch.tensor([0.0, -3.0]))\n    return model\n",
        encoding="utf-8",
    )
    audit.rewrite("at_most: 0.1", "at_most: 1.0")
    record = audit.run()
    assert record.verdict is Verdict.INCONCLUSIVE
    assert "is declared 100.0 % accurate, but 50.0 % of 80 test samples" in record.doubts[0]


def test_replay_keeps_the_batch_size_which_decides_what_is_spent(audit):
    from casemate.campaign.assemble import Replay

    assert Replay(source="a.yaml", batch_size=37).command("k") == (
        "casemate run a.yaml --batch-size 37 --only k --again"
    )
