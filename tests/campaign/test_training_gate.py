"""The training gate of a campaign: read, checked as a whole, planned and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from casemate.campaign import probe as probing
from casemate.campaign.ahead import train_ahead, workers
from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.events import ModelReady, ModelTraining
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.probe import Pace, probed
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.campaign.victims import Victims
from casemate.errors import UsageError
from casemate.evidence import FALSE_FLAG, FLAGGED, NAMED
from casemate.inference import exposure
from casemate.training.defenses.fine_tuning import FineTuning

HEAD = """
casemate: 1
name: gate
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 5, batch_size: 32, learning_rate: 0.05}}
"""
PATCH = "{name: badnets, size: 2, amount: {percent: 10}}"
SMOOTHED = "{architecture: lenet, recipe: {label_smoothing: 0.1}}"


def read(trials, head=HEAD):
    spec, problems = read_spec(parse_document(f"{head}{trials}", "c.yaml"), base_dir=Path())
    return spec, problems


def planned(trials, store=None, head=HEAD, **options):
    spec, problems = read(trials, head)
    gates = Gates(base_dir=Path())
    return make_plan(spec, problems, gates, store, **options), gates


def wrong(trials, head=HEAD):
    with pytest.raises(UsageError) as found:
        planned(trials, head=head)
    return str(found.value)


def run(trials, folder, *listeners):
    with Store(folder, write=True) as store:
        plan, gates = planned(trials, store)
        replay = Replay(source="c.yaml")
        return run_plan(plan, store, gates, replay=replay, listeners=listeners)


def trial(text):
    return f"trials:\n  - {text}\n"


def by_name(record, i=0):
    return {m.name: m for m in record.trials[i].evidence.measurements}


def test_the_gate_is_a_grid_like_everything_else():
    spec, problems = read(
        trial(
            "training: {attack: [null, {name: badnets, amount: {count: [5, 10]}}], "
            "defense: [null, {name: near-duplicates}], clean: [0, 40]}"
        )
    )
    assert not problems
    gates = [t.training for t in spec.trials]
    found = [
        (
            g.attack and g.attack.value.amount.count,
            g.defense and g.defense.name,
            g.clean,
        )
        for g in gates
    ]
    assert found == [
        (count, defense, clean)
        for count in (None, 5, 10)
        for defense in (None, "near-duplicates")
        for clean in (0, 40)
    ]
    assert len({g.digest for g in gates}) == 12


def test_defaults_lie_under_the_gate_part_by_part():
    spec, problems = read(
        "defaults: {training: {clean: 40, defense: {name: fine-tuning, epochs: 3}}}\n"
        + trial("training: {attack: " + PATCH + "}")
        + "  - training: {attack: "
        + PATCH
        + ", defense: null}\n"
        + "  - training: {defense: {name: fine-pruning}}\n"
    )
    assert not problems
    first, second, third = (t.training for t in spec.trials)
    assert (first.defense.value.epochs, first.clean) == (3, 40)
    assert (second.defense, second.clean) == (None, 40)
    assert (third.attack, third.defense.name) == (None, "fine-pruning")


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        (
            "{attack: {name: pgd}}",
            "training.attack: pgd acts at inference; name it in the trial, beside training",
        ),
        ("{defense: {name: median}}", "trials[0].training.defense: median acts at inference"),
        ("{attak: null}", 'there is no key "attak" under training. Did you mean "attack"?'),
        (
            "{defense: {name: fine-tuning}}",
            "fine-tuning needs clean samples and gets none; set clean",
        ),
        ("{clean: -1}", "trials[0].training.clean: is -1, but must not be negative"),
        ("{clean: 1.5}", "trials[0].training.clean"),
        ("{clean: 100000}", "clean asks for 100000 samples, but digits/train has"),
        ("badnets", 'training: is "badnets", but must be a mapping'),
        ("[]", "trials[0].training: is an empty list, which makes no trial"),
        (
            "{attack: {name: badnets}}\n    seed: [0, 1, 0]",
            "trials[0].seed: holds 0 more than once; give each seed once",
        ),
        (
            "{attack: {name: badnets, amount: {percent: 120}}}",
            "training.attack.amount.percent: must be a number above 0 and at most 100, got 120",
        ),
        (
            "{attack: {name: badnets, amount: {count: -1}}}",
            "attack.amount.count: must be a whole number from 1 to 2147483647, got -1",
        ),
        (
            "{attack: {name: badnets, amount: 0.1}}",
            "attack.amount: 0.1 must be a mapping of count, percent, per_class, such as {count: ",
        ),
        ("{attack: {name: badnets, amount: null}}", "attack.amount: null must be a mapping of"),
        (
            "{attack: {name: badnets, target: 1.5}}",
            "training.attack.target: 1.5 must be text or a whole number",
        ),
        (
            "{attack: {name: input-noise, classes: 3}}",
            "training.attack.classes: 3 must be a list",
        ),
        ("{attack: {target: 1}}", "training.attack: name is missing; name an attack, one of"),
        (
            "{attack: {name: badnets, amount: {count: [1, 99999]}}}",
            "attack.amount.count[1]: asks for 99999 samples",
        ),
        (
            "{attack: {name: badnets, amount: {count: 5, percent: 1}}}",
            (
                "training.attack.amount: says both count (5) and percent (1), of which one can "
                "hold; remove count to poison that share, or percent to poison that many"
            ),
        ),
        (
            "{attack: {name: badnets, amount: {per_class: true}}}",
            "training.attack.amount: says neither count nor percent; give one of them",
        ),
        (
            "{attack: {name: badnets, target: eleven}}",
            (
                "training.attack.target: is 'eleven', which is no class of digits/train; name one "
                "of its classes. Known: 0, 1, 2"
            ),
        ),
        (
            "{attack: {name: badnets, target: [0, 12]}}",
            (
                "training.attack.target[1]: is 12, but the classes of digits/train are numbered 0 "
                "to 9; give one of them, or its name"
            ),
        ),
        (
            "{attack: {name: label-flips, kind: class, source: 11, target: 1}}",
            "training.attack.source: is 11, but the classes of",
        ),
        (
            "{attack: {name: label-flips, kind: class, source: 1, target: 1}}",
            'training.attack.target: is the class "1", and so is source; give two classes',
        ),
        (
            "{attack: {name: label-flips, kind: pair, target: 1}}",
            'training.attack.target: is for the kind "class", and label-flips of the kind "pair"',
        ),
        (
            "{attack: {name: label-flips, kind: class, target: 1}}",
            'training.attack.source: is missing, but label-flips of the kind "class" need',
        ),
        (
            "{attack: {name: input-noise, classes: [1, ten]}}",
            "training.attack.classes[1]: is 'ten', which is no class of digits/train",
        ),
        (
            "{attack: {name: gradient-matching, target: ten}}",
            "training.attack.target: is 'ten', which is no class of digits/train",
        ),
        (
            "{attack: {name: sig, frequency: [1, 4]}}",
            "training.attack.frequency[1]: is 4, but images of digits/train are 8 pixels wide",
        ),
        (
            "{attack: {name: badnets, margin: 30}}",
            (
                "training.attack.margin: is 30, but a patch of 3 pixels with a margin of 30 does "
                "not fit into images of 8 x 8; give at most 5"
            ),
        ),
        (
            "{defense: {name: near-duplicates, side: 7}}",
            "training.defense.side: must be even, got 7",
        ),
        (
            "{defense: {name: partition-aggregation, partitions: 1000}}",
            "training.defense.partitions: is 1000, which leaves a part of digits/train",
        ),
        (
            "{attack: {name: badnets, size: 9}}",
            "training.attack.size: is 9, but a patch of 9 pixels with a margin of 1 does not fit",
        ),
        ("{attack: {name: badnets, size: 9}}", "into images of 8 x 8; give at most 7"),
        (
            "{attack: {name: low-impact, amount: {count: 9999}}}",
            "amount.count: asks for 9999 samples",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_runs(training, sentence):
    found = wrong(trial(f"training: {training}"))
    assert sentence in found
    assert "c.yaml, line" in found
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize(
    ("training", "place", "start"),
    [
        ("{defense: {name: i-bau}, clean: 1}", "training.defense", "i-bau needs at least 2 clean"),
        (
            "{defense: [null, {name: fine-pruning}], clean: 10}",
            "training.defense[1]",
            "fine-pruning measures accuracy on a share of 0.2 of the clean samples",
        ),
        (
            "{defense: {name: confident-learning, folds: 1400}, clean: 40}",
            "training.defense.folds",
            "is 1400, but digits/train has 1398 samples; ask for at most as many folds",
        ),
        (
            "{defense: {name: partition-aggregation, partitions: 900}}",
            "training.defense.partitions",
            "is 900, which leaves a part of digits/train with 0 samples",
        ),
        (
            "{defense: {name: private-training}}\n    model: " + SMOOTHED,
            "training.defense",
            "private training cannot be used with recipe.label_smoothing; remove it",
        ),
        (
            "{attack: [null, {name: sig}]}",
            "training.attack[1].frequency",
            "is 6, but images of digits/train are 8 pixels wide",
        ),
        (
            "{attack: {name: low-impact, delta: 0.03}}",
            "training.attack.delta_class",
            "is 0.05, but low-impact rehearses on a tenth of digits/train, at most 14",
        ),
        (
            "{clean: [0, 1420]}",
            "training.clean[1]",
            "clean is 1420 of the 1438 samples of digits/train, which leaves 18 to train on, fewer",
        ),
        (
            "{defense: {name: knn-disagreement, k: [100, 1438]}}",
            "training.defense.k[1]",
            "is 1438, but each of the 1438 samples of digits/train has 1437 neighbors; give at",
        ),
        (
            f"{{attack: {PATCH}, clean: [0, 100000]}}",
            "training.clean[1]",
            "clean asks for 100000 samples, but digits/train has 1438; ask for fewer",
        ),
        (
            "{defense: {name: partition-aggregation, partitions: 5}}\n    attack: {name: fgsm}",
            "attack",
            "fgsm needs gradients, but the votes of the committee that partition-aggregation makes",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(training, place, start):
    found = wrong(trial(f"training: {training}"))
    line = 8 if place == "attack" else 7
    assert found.startswith(f"c.yaml, line {line}, trials[0].{place}: {start}")
    assert len(found.splitlines()) == 1


def test_what_each_defense_says_ahead_is_asked_once_for_each_hold_out(monkeypatch):
    asked = []
    monkeypatch.setattr(
        FineTuning, "check", lambda defense, *given: asked.append((defense.epochs, *given))
    )
    planned(
        trial(
            f"training: {{attack: [null, {PATCH}], "
            "defense: {name: fine-tuning, epochs: [1, 2]}, clean: 40}\n    seed: [0, 1]"
        )
    )
    assert [a[0] for a in asked] == [1, 1, 2, 2]
    for _, data, lab, clean in asked:
        assert (len(data), len(clean)) == (1398, 40)
        assert lab.recipe.epochs == 5


def test_a_defense_may_say_nothing_ahead():
    plan, _ = planned(trial("training: {defense: {name: spectral-signatures}}"))
    assert len(plan.trials) == 1


def test_a_recipe_that_does_not_fit_the_data_is_refused(audit):
    audit.rewrite(
        '{factory: "audited:make"}', "{architecture: mlp, recipe: {augmentation: {shift: 1}}}"
    )
    with pytest.raises(UsageError, match=r"model\.recipe\.augmentation: is for images"):
        audit.plan()


def test_evidence_of_a_defended_trial_does_not_depend_on_what_else_was_run(tmp_path):
    defended = f"training: {{attack: {PATCH}, defense: {{name: spectral-signatures}}}}"
    alone = by_name(run(trial(defended), tmp_path / "alone"))
    both = f"training: {{attack: {PATCH}, defense: [null, {{name: spectral-signatures}}]}}"
    beside = by_name(run(trial(both), tmp_path / "both"), 1)
    assert alone["poisoned samples learned"] == beside["poisoned samples learned"]
    names = [n for n in beside if n != "seconds of the defense"]
    assert [alone.get(n) for n in names] == [beside[n] for n in names]


def test_an_attack_on_training_has_no_place_at_inference():
    found = wrong(trial(f"attack: {PATCH}"))
    assert "badnets acts at training; name it under training" in found


@pytest.mark.parametrize("attack", ["", "attack: null, ", "attack: [null], "])
@pytest.mark.parametrize(
    "entry", ["goal: {to: 1}", "queries: 10", "early_stop: false", "attacker: before"]
)
def test_what_a_trial_says_of_an_attack_at_inference_that_it_has_not_is_refused(attack, entry):
    key = entry.partition(":")[0]
    found = wrong(trial(f"{{training: {{attack: {PATCH}}}, {attack}{entry}}}"))
    assert found.startswith(f"c.yaml, line 7, trials[0].{key}: speaks of an attack at inference")
    assert "remove it, or name an attack beside training" in found
    assert ("has its goal in its own parameters" in found) == (key == "goal")
    assert len(found.splitlines()) == 1


def test_defaults_may_speak_of_attacks_at_inference_that_other_trials_have():
    spec, problems = read(
        "defaults:\n"
        "  {goal: [{to: 1}, {to: 2}], queries: [5, 6], early_stop: false, attacker: after}\n"
        + trial(f"{{training: {{attack: {PATCH}}}, goal: null}}")
        + f"  - {{training: {{attack: {PATCH}}}}}\n"
        + "  - {attack: {name: fgsm}, defense: {name: median}}\n"
    )
    assert not problems
    # what means nothing in a trial makes no grid of it
    assert [(t.attack is None, t.goal.to, t.options.queries) for t in spec.trials] == [
        (True, None, None),
        (True, None, None),
        (False, 1, 5),
        (False, 1, 6),
        (False, 2, 5),
        (False, 2, 6),
    ]


def test_in_a_grid_with_and_without_an_attack_at_inference_its_keys_are_for_those_with_one():
    spec, problems = read(
        trial(
            f"{{training: {{attack: {PATCH}}}, attack: [null, {{name: fgsm}}], queries: [5, 6], "
            "goal: {to: 1}}"
        )
    )
    assert not problems
    assert [(t.attack is None, t.options.queries) for t in spec.trials] == [
        (True, None),
        (False, 5),
        (False, 6),
    ]


def test_a_trial_needs_an_attack_or_a_training_gate():
    assert "attack: is missing; say what attack this trial has" in wrong(trial("samples: 5"))


def test_a_model_that_comes_trained_cannot_be_poisoned():
    head = f"{HEAD.partition('model:')[0]}model: {{factory: 'a:b'}}\n"
    assert "the training gate needs a model that is trained here" in wrong(
        trial(f"training: {{attack: {PATCH}}}"), head
    )


def test_all_of_the_test_split_is_looked_at_unless_samples_are_named():
    plan, _ = planned(
        trial(f"training: {{attack: {PATCH}}}\n    samples: [null, 50]")
        + f"  - training: {{attack: {PATCH}}}\n    attack: {{name: fgsm}}\n"
    )
    assert [p.n for p in plan.trials] == [359, 50, 100]
    assert [p.settings["attack"] is None for p in plan.trials] == [True, True, False]


def test_keys_tell_attack_defense_seed_and_clean_samples_apart():
    plan, _ = planned(
        trial(f"training: {{attack: [null, {PATCH}], clean: [0, 40]}}\n    seed: [0, 1]")
        + "  - training: {defense: {name: near-duplicates}}\n"
    )
    assert len({p.key for p in plan.trials}) == 9
    assert len({p.identity["model"] for p in plan.trials}) == 9
    # what a report calls the model under test is the one without attack and defense
    assert len({p.settings["model_digest"] for p in plan.trials}) == 4


def test_estimates_count_each_model_once():
    plan, _ = planned(
        trial(
            f"training: {{attack: [null, {PATCH}], defense: [null, {{name: knn-disagreement}}]}}"
        ),
        estimate=True,
    )
    (pace,) = plan.paces.values()
    # the reference, its control, one victim, two models on what the defense leaves, and two of the
    # defender's
    assert plan.training == pytest.approx(7 * pace.training / workers("cpu", 7))


def test_a_backdoor_is_held_against_a_model_without_it(tmp_path):
    heard = []
    record = run(
        trial(f"training: {{attack: [{PATCH}, null]}}")
        + f"  - training: {{attack: {PATCH}}}\n    attack: {{name: fgsm, epsilon: 0.1}}\n"
        "    samples: 20\n",
        tmp_path,
        heard.append,
    )
    assert [t.status for t in record.trials] == ["finished"] * 3
    attacked, nobody = by_name(record, 0), by_name(record, 1)
    assert attacked["attack success rate"].n > 200
    assert attacked["attack success rate without the attack"].value < 0.2
    assert "attack success rate" not in nobody
    assert nobody["clean accuracy drop"].value == 0
    assert nobody["clean accuracy"].value == attacked["accuracy without the attack"].value
    spent = record.trials[0].evidence.spent
    assert (spent["poisoned samples"], spent["training samples"]) == (144, 1438)
    # three models for three trials, and one entry for the model under test
    trained = {e.model for e in heard if isinstance(e, ModelTraining)}
    assert len([e for e in heard if isinstance(e, ModelReady) and not e.cached]) <= 3
    assert trained
    assert len(record.models) == 1
    assert record.trials[0].threat == "backdoor-data"
    assert [t.control for t in record.trials] == [False, True, False]
    assert "accuracy under attack" in by_name(record, 2)


ANOTHER = "alarms by confidence over another clean model"
FLOOR = "clean accuracy drop of another clean model"


def test_one_control_serves_all_attacks_and_defenses(tmp_path, monkeypatch):
    monkeypatch.setattr("casemate.campaign.run.train_ahead", lambda *_: None)
    asked = []
    ask = exposure.scores
    monkeypatch.setattr(exposure, "scores", lambda t, *a, **k: asked.append(t) or ask(t, *a, **k))
    heard = []
    flips = "{name: label-flips, amount: {percent: 10}}"
    record = run(
        trial(
            f"training: {{attack: [null, {PATCH}, {flips}], "
            "defense: [null, {name: near-duplicates}]}"
        ),
        tmp_path,
        heard.append,
    )
    found = [by_name(record, i) for i in range(6)]
    ready = [e.model for e in heard if isinstance(e, ModelReady) and not e.cached]
    assert ready.count("lenet of another seed") == 1
    assert len(asked) == 2  # the reference and its control, each once about these samples
    assert len({f[FLOOR].value for f in found}) == 1
    (null, *_), backdoors = found, found[2:4]
    # nobody attacks: the model is the reference, and the control is a model of its own
    assert null["detection by confidence"].value == null["false alarms by confidence"].value
    assert null[ANOTHER] != null["detection by confidence"]
    assert {f[ANOTHER] == null[ANOTHER] for f in found if f not in backdoors} == {True}
    assert [f"{ANOTHER} with triggers" in f for f in found] == [False] * 2 + [True] * 2 + [
        False
    ] * 2
    assert [t.evidence.spent["verifier forward"] // 359 for t in record.trials] == [
        3,
        3,
        6,
        6,
        3,
        3,
    ]


def test_the_control_is_the_reference_of_a_far_seed():
    plan, gates = planned(
        trial("training: {attack: null}\n    seed: [0, 1, 3000000]")
        + f"  - training: {{attack: {PATCH}}}\n    attack: {{name: fgsm}}\n    samples: 20\n"
    )
    orders = gates.orders
    first, second, far, chain = (p.trial for p in plan.trials)
    keys = [orders.control_key(t) for t in (first, second)]
    assert keys[0] == orders.reference_key(far)
    assert len({*keys, *(orders.reference_key(t) for t in (first, second))}) == 4
    assert orders.control_key(first) in orders.needed(first)
    # an attack at inference needs none
    assert orders.control_key(chain) not in orders.needed(chain)
    assert "exposure" not in plan.trials[3].identity


def test_controls_are_trained_ahead_beside_references(tmp_path, monkeypatch):
    waves = []
    monkeypatch.setattr("casemate.training.crew.cores", lambda: 2)
    monkeypatch.setattr(
        "casemate.training.crew.share_out", lambda makings, **_: waves.append(list(makings))
    )
    plan, gates = planned(trial(f"training: {{attack: [null, {PATCH}]}}\n    seed: [0, 1]"))
    with Store(tmp_path, write=True) as store:
        train_ahead(gates.victims, [p.trial for p in plan.trials], store, lambda _: None)
    clean, attacked = waves
    assert sorted(m.order.seed for m in clean) == [0, 1, 3_000_000, 3_000_001]
    assert {m.order.attack for m in clean} == {None}
    assert sorted(m.order.seed for m in attacked) == [0, 1]
    assert None not in {m.order.attack for m in attacked}


def test_a_control_behind_a_defense_of_its_own(tmp_path):
    record = run(
        trial(f"training: {{attack: {PATCH}}}\n    defense: [null, {{name: median}}]"), tmp_path
    )
    bare, behind = by_name(record, 0), by_name(record, 1)
    assert bare[ANOTHER].value is not None
    assert behind[ANOTHER].value is not None
    rows = [t.evidence.samples["control_label"] for t in record.trials]
    assert (rows[0] != rows[1]).any()


def test_evidence_without_a_control_is_made_again_of_the_same_models(tmp_path, monkeypatch):
    text = trial(f"training: {{attack: [null, {PATCH}]}}") + (
        "  - training: {attack: null}\n    attack: {name: fgsm}\n    samples: 20\n"
    )
    with monkeypatch.context() as before:
        before.setattr(exposure.Exposure, "revision", 3)
        run(text, tmp_path)
    with Store(tmp_path, write=False) as store:
        plan, gates = planned(text, store)
        assert [p.cached for p in plan.trials] == [False, False, True]
        assert plan.trials[0].reason == "changed: exposure.revision 3 → 8"
        assert [gates.trainings(p.trial, store) for p in plan.trials] == [[], [], []]


@pytest.mark.parametrize("attack", ["gradient-matching", "feature-collision"])
def test_nothing_to_aim_at_is_known_before_anything_runs(attack, tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (90, 8, 8)).astype(np.uint8)
    labels = np.arange(90) % 3
    tested = labels[:30] % 2  # the third class is in the training set only
    path = tmp_path / "two.npz"
    np.savez(path, x_train=inputs, y_train=labels, x_test=inputs[:30], y_test=tested)
    head = HEAD.replace("digits", f"npz, path: {path}")
    found = wrong(
        trial(
            f"training: {{attack: {{name: {attack}, amount: {{count: 5}}, source: 2, target: 0}}}}"
        ),
        head=head,
    )
    assert "trials[0].training.attack: " in found
    assert f'{attack} needs a known input of class "2", but there is none; give one' in found


def test_a_plan_counts_what_is_trained_and_what_is_computed_besides(tmp_path, monkeypatch):
    pace = Pace(forward=0.0, backward=0.0, training=10.0, working=1e-3)
    monkeypatch.setattr("casemate.campaign.plan.probe", lambda *_: pace)
    collision = "{name: feature-collision, amount: {count: 5}, steps: 9}"
    text = trial(
        f"training: {{clean: 40, attack: [null, {PATCH}, {collision}], "
        "defense: [null, {name: fine-tuning, epochs: 3}]}"
    )
    plan, _ = planned(text, estimate=True)
    # the reference and its control, two victims, and the surrogate of one
    collided, tuned = (1 + 9) * 5, 3 * 40
    seconds = 5 * 10.0 + 1e-3 * (collided + 3 * tuned)
    assert plan.training == pytest.approx(seconds / workers("cpu", 5))
    assert workers("cuda:1", 5) == workers("cpu", 1) == 1
    run(text, tmp_path)
    with Store(tmp_path, write=False) as store:
        again, _ = planned(text, store, estimate=True)
    assert again.training == 0.0


def test_networks_of_an_attack_are_timed_on_the_data_once(monkeypatch):
    aware = "{name: input-aware, amount: {count: 5}, epochs: 2, mask_epochs: 1, width: [4, 8]}"
    plan, gates = planned(trial(f"training: {{attack: {aware}}}\n    seed: [0, 1]"))
    widths = []
    monkeypatch.setattr(
        probing,
        "_seconds",
        lambda run: run() or widths.append(1) or 0.5,  # called for each network
    )
    networks, pace = {}, Pace(forward=0.0, backward=0.0, working=1e-3)
    for planned_trial in plan.trials:
        for passes in gates.labors(planned_trial.trial, None).popitem()[1]:
            seconds = probed(passes, planned_trial.trial, gates, pace, networks)
            each = 1e-3 if passes.network is None else 0.5 / gates.batch_size
            assert seconds == pytest.approx(passes.samples * each)
    # masks and patterns of one channel are drawn by networks alike
    assert len(networks) == len(widths) == 2


def test_nothing_is_trained_or_measured_twice(tmp_path):
    text = trial(f"training: {{attack: {PATCH}}}\n    seed: [0, 1]")
    first = run(text, tmp_path)
    heard = []
    again = run(text, tmp_path, heard.append)
    assert not [e for e in heard if isinstance(e, ModelTraining)]
    assert [t.evidence.measurements for t in again.trials] == [
        t.evidence.measurements for t in first.trials
    ]
    classes = [t.evidence.by_class for t in again.trials]
    assert classes == [t.evidence.by_class for t in first.trials]
    assert all(m.n for found in classes for m in found)
    assert {len(found) for found in classes} == {len(first.models[0]["classes"])}


def test_a_defense_is_measured_by_what_it_removed(tmp_path):
    flips = "{name: label-flips, amount: {percent: 10}}"
    defense = "[null, {name: confident-learning, folds: 2}]"
    record = run(trial(f"training: {{attack: {flips}, defense: {defense}}}"), tmp_path)
    without, defended = by_name(record, 0), by_name(record, 1)
    assert "recall of removal" not in without
    assert defended["recall of removal"].n == 144
    assert defended["recall of removal"].value > 0.5
    assert defended["seconds of the defense"].value > 0
    assert record.trials[1].evidence.spent["defender's models"] == 2
    # what the undefended model learned is a fact about the attack, in both rows
    assert without["poisoned samples learned"] == defended["poisoned samples learned"]


def test_what_a_defense_notes_is_part_of_the_evidence(tmp_path):
    text = trial(
        f"training: {{attack: [null, {PATCH}], defense: [{{name: spectral-signatures}}, "
        "{name: neural-cleanse, steps: 2, batches: 1}], clean: 60}"
    )
    record = run(text, tmp_path)
    layers, null, also, backdoor = (t.evidence for t in record.trials)
    assert layers.notes["layer"] == also.notes["layer"]
    assert FLAGGED not in {m.name for m in also.measurements}
    assert len(backdoor.notes["norms"]) == 10
    assert null[FALSE_FLAG].value == (null.notes["found"] is not None)
    assert backdoor[FLAGGED].value == (backdoor.notes["found"] is not None)
    assert backdoor[NAMED].value == (backdoor.notes["found"] == 0)
    with Store(tmp_path, write=False) as store:
        assert store.trial(record.trials[3].key).evidence.notes == backdoor.notes


def test_the_verdict_is_held_against_the_class_that_the_attacker_named(tmp_path, monkeypatch):
    known = Victims.facts

    def naming(victims, trial, store):
        facts = known(victims, trial, store)
        notes = {"score": 3.0, "found": 7}
        return {**facts, "defense": {**facts["defense"], "notes": notes}}

    monkeypatch.setattr(Victims, "facts", naming)
    attacks = [
        f"{{name: badnets, size: 2, target: '{t}', amount: {{percent: 10}}}}" for t in (7, 3)
    ]
    attacks.append("{name: label-flips, amount: {percent: 10}}")
    defense = "{name: near-duplicates}"
    record = run(
        trial(f"training: {{attack: [null, {', '.join(attacks)}], defense: {defense}}}"), tmp_path
    )
    names = (FLAGGED, NAMED, FALSE_FLAG)
    found = [{n: m.value for n, m in by_name(record, i).items() if n in names} for i in range(4)]
    assert found == [
        {FALSE_FLAG: 1},
        {FLAGGED: 1, NAMED: 1},
        {FLAGGED: 1, NAMED: 0},
        {FALSE_FLAG: 1},
    ]


def test_a_repair_mends_the_victim_of_the_row_without_it(tmp_path):
    heard = []
    run(
        trial(
            f"training: {{attack: {PATCH}, defense: [null, {{name: fine-tuning, epochs: 1}}], "
            "clean: 100}"
        ),
        tmp_path,
        heard.append,
    )
    ready = [e.model for e in heard if isinstance(e, ModelReady) and not e.cached]
    assert "lenet with fine-tuning" in ready
    assert ready.count("lenet under badnets") <= 1


@pytest.mark.parametrize("samples", ["", ", samples: 20"])
def test_who_wants_one_input_succeeds_there_and_accuracy_is_that_of_all(tmp_path, samples):
    attack = "{name: feature-collision, source: '1', target: '7', amount: {count: 5}, steps: 2}"
    record = run(trial(f"{{training: {{attack: {attack}}}{samples}}}"), tmp_path)
    evidence = record.trials[0].evidence
    rates = by_name(record)
    assert rates["attack success rate"].n == 1
    assert int(evidence.samples["eligible"].sum()) == rates["attack success rate"].n
    assert (evidence.samples["label"][evidence.samples["eligible"]] == 1).all()
    # twenty, and the one that is aimed at if it is not among them
    assert rates["clean accuracy"].n in ((20, 21) if samples else (359,))


def test_a_small_split_may_lose_half_of_it_to_clean_samples():
    whole = 1438
    head = HEAD.replace("batch_size: 32", "batch_size: 1000")
    planned(trial(f"training: {{clean: {whole // 2}}}"), head=head)
    found = wrong(trial(f"training: {{clean: {whole // 2 + 1}}}"), head)
    assert found.endswith(f"half of the split; hold out at most {whole // 2}")
