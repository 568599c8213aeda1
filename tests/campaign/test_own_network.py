"""A campaign trains the user's own network: read, planned, attacked, defended, made again."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from own_nets import forget, write_nets

from casemate.campaign.ahead import train_ahead
from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.events import TrialRepeated
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.sections import plain_model
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.errors import UsageError
from casemate.models import own as owning
from casemate.report.html import write

HEAD = """
casemate: 1
name: own
data: {source: digits}
model: {factory: "own_net:make", arguments: {width: 4}, recipe: {epochs: 3, batch_size: 32,
  learning_rate: 0.05}}
"""
FEATURES = """
casemate: 1
name: own
data: {source: npz, path: features.npz}
model: {factory: "own_net:mlp", recipe: {epochs: 3, batch_size: 32, learning_rate: 0.05}}
"""
NOBODY = "trials:\n  - training: {attack: null}\n"
GATE = """
trials:
  - training:
      attack: [null, {name: badnets, size: 2, amount: {percent: 10}}]
      defense: [null, {name: near-duplicates}, {name: partition-aggregation, partitions: 3},
        {name: fine-pruning, epochs: 1}]
      clean: 100
  - attack: {name: fgsm, epsilon: 0.1}
    samples: 20
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(owning, "_DECLARED", {})
    place = tmp_path / "campaign"
    place.mkdir()
    write_nets(place)
    forget()
    yield place
    forget()


def planned(folder, text, store=None, **options):
    """Plan as another process would that has imported and declared nothing."""
    forget()
    owning._DECLARED.clear()
    spec, problems = read_spec(parse_document(text, "c.yaml"), base_dir=folder)
    gates = Gates(base_dir=folder)
    return make_plan(spec, problems, gates, store, **options), gates


def run(folder, text, store="store", *listeners, again=False):
    with Store(folder.parent / store, write=True) as opened:
        plan, gates = planned(folder, text, opened)
        replay = Replay(source="c.yaml")
        return run_plan(plan, opened, gates, replay=replay, again=again, listeners=listeners)


def wrong(folder, text):
    with pytest.raises(UsageError) as found:
        planned(folder, text)
    return str(found.value)


def test_a_backdoor_and_a_defense_of_each_phase(folder, tmp_path):
    repeated = []
    record = run(folder, HEAD + GATE)
    assert [t.status for t in record.trials] == 9 * ["finished"]
    success = {
        (t.settings["training"]["defense"] or {}).get("name"): m.value
        for t in record.trials[4:8]
        for m in t.evidence.measurements
        if m.name == "attack success rate"
    }
    assert success[None] > 0.5
    assert len(success) == 4
    entry = record.models[0]
    assert (entry["name"], entry["factory"]) == ("own_net:make", "own_net:make")
    assert entry["arguments"] == {"width": 4}
    assert entry["recipe"]["epochs"] == 3
    assert re.fullmatch("[0-9a-f]{32}", entry["source"])
    assert entry["accuracy"]["value"] > 0.5
    page = write(record, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "own_net:make" in page
    run(
        folder,
        HEAD + GATE,
        "store",
        lambda e: repeated.append(e) if isinstance(e, TrialRepeated) else None,
        again=True,
    )
    assert [e.differences for e in repeated] == 9 * [()]


def test_another_store_gets_the_same_models_bit_for_bit(folder):
    text = HEAD + "trials:\n  - training: {attack: {name: badnets, size: 2}}\n    seed: [0, 1]\n"
    first, second = (run(folder, text, store) for store in ("one", "two"))
    for a, b in zip(first.trials, second.trials, strict=True):
        assert a.key == b.key
        assert a.evidence.measurements == b.evidence.measurements
        for name, column in a.evidence.samples.items():
            assert column.tobytes() == b.evidence.samples[name].tobytes(), name


def test_worker_processes_make_its_models(folder, monkeypatch):
    monkeypatch.setattr("casemate.training.crew.cores", lambda: 2)
    text = HEAD + "trials:\n  - training: {attack: {name: badnets, size: 2}}\n    seed: [0, 1]\n"
    with Store(folder.parent / "store", write=True) as store:
        plan, gates = planned(folder, text, store)
        heard = []
        train_ahead(gates.victims, [p.trial for p in plan.trials], store, heard.append)
        assert heard
        for planned_trial in plan.trials:
            trial = planned_trial.trial
            for name in (gates.orders.victim_key(trial), gates.orders.control_key(trial)):
                assert store.has(name)


def test_features_and_an_attacker_with_surrogates(folder):
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    x = rng.normal(labels[:, None], 0.3, (240, 6)).clip(-2, 4).astype(np.float32) / 6 + 1 / 3
    np.savez(folder / "features.npz", x=x, y=labels)
    record = run(
        folder,
        FEATURES
        + "trials:\n  - training: {attack: [null, {name: label-flips, amount: {percent: 20}}, "
        "{name: feature-collision, target: 1, steps: 2}]}\n",
    )
    assert [t.status for t in record.trials] == 3 * ["finished"], [t.error for t in record.trials]


def test_the_attackers_surrogates_are_of_the_victims_network(folder):
    record = run(
        folder,
        HEAD + "trials:\n  - training: {attack: {name: gradient-matching, target: 3, steps: 2}, "
        "defense: {name: knn-disagreement}}\n",
    )
    assert record.trials[0].status == "finished", record.trials[0].error


def key_of(folder, text=HEAD + NOBODY):
    return planned(folder, text)[0].trials[0].key


def test_code_and_arguments_change_the_key_and_the_place_does_not(folder, tmp_path):
    known = key_of(folder)
    assert key_of(folder) == known
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert key_of(moved) == known
    assert key_of(folder, (HEAD + NOBODY).replace("width: 4", "width: 5")) != known
    path = moved / "own_net.py"
    path.write_text(path.read_text().replace(".relu(), 2)", ".tanh(), 2)"))
    assert key_of(moved) != known


def test_the_recipe_makes_a_grid_and_the_model_has_the_factorys_name(folder):
    plan, _ = planned(folder, (HEAD + NOBODY).replace("epochs: 3", "epochs: [1, 2]"))
    assert [p.trial.model.recipe.epochs for p in plan.trials] == [1, 2]
    assert {plain_model(p.trial.model) for p in plan.trials} == {"own_net:make"}


def test_it_is_timed_before_it_is_trained(folder):
    plan, _ = planned(folder, HEAD + NOBODY, estimate=True)
    assert plan.training > 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "arguments:",
            "weights: w.safetensors, arguments:",
            (
                "model.weights: are of a model that comes trained, and one with a recipe is "
                "trained here; remove weights or recipe"
            ),
        ),
        ("arguments:", "outputs: probabilities, arguments:", "model.outputs: must be logits where"),
        (
            "arguments:",
            "preprocessing: {mean: 0.5, std: 0.25}, arguments:",
            "model.preprocessing: is for a model that comes trained; one with a recipe is trained",
        ),
        ("arguments:", "trust_pickle: true, arguments:", "model.trust_pickle: is for weights"),
        ("arguments:", "argument:", 'Did you mean "arguments"?'),
        ("epochs: 3", "epoch: 3", 'model.recipe.epoch: there is no key "epoch" here.'),
        ("own_net:make", "own_net:mak", 'model: model.factory: "own_net" has no "mak"'),
        ("own_net:make", "os:system", '"os" holds no model of yours'),
        (
            '"own_net:make", arguments: {width: 4}',
            '"own_net:narrow"',
            'model: model.factory: "own_net:narrow" builds a network that returns (2, 7) for 2',
        ),
        ("width: 4", "widht: 4", "unexpected keyword argument 'widht'"),
        (
            "{epochs: 3, batch_size: 32,\n  learning_rate: 0.05}",
            "null",
            (
                "the training gate needs a model that is trained here, but this one comes "
                "trained; name an architecture, give a factory a recipe instead of weights, or "
                "leave training out"
            ),
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_trained(
    folder, monkeypatch, old, new, says
):
    monkeypatch.setattr("casemate.training.making.train", None)
    assert old in HEAD
    found = wrong(folder, (HEAD + NOBODY).replace(old, new))
    assert says in found
    assert found.startswith("c.yaml, line")
    assert len(found.splitlines()) == 1


def test_a_recipe_that_does_not_fit_names_its_key(folder):
    np.savez(
        folder / "features.npz", x=np.random.default_rng(0).random((60, 6)), y=np.arange(60) % 3
    )
    text = (FEATURES + NOBODY).replace("epochs: 3", "augmentation: {shift: 2}")
    assert "model.recipe.augmentation: is for images" in wrong(folder, text)
