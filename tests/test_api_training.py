"""Attacks on training from Python, and the page's example of them."""

from __future__ import annotations

import importlib
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from own_nets import forget, write_nets

import casemate as cm
from casemate import registry
from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.gates import Gates
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.errors import UsageError
from casemate.models import own as owning

ROOT = Path(__file__).parents[1]
RECIPE = cm.Recipe(epochs=2, batch_size=32, learning_rate=0.05)
CAMPAIGN = """
casemate: 1
name: same
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 2, batch_size: 32, learning_rate: 0.05}}
trials:
  - training:
      attack: [{name: badnets, size: 2}, {name: gradient-matching, target: 3, steps: 2}]
      defense: {name: fine-tuning, epochs: 1}
      clean: 100
    seed: 4
"""


@pytest.fixture(scope="module")
def splits():
    return tuple(cm.load_data("digits", split=split) for split in ("train", "test"))


def test_it_measures_what_a_campaign_measures(splits, tmp_path):
    attacks = [cm.BadNets(size=2), cm.GradientMatching(target=3, steps=2)]
    result = cm.attack_training(
        cm.LeNet(),
        *splits,
        attacks,
        recipe=RECIPE,
        defense=cm.FineTuning(epochs=1),
        clean=100,
        seed=4,
    )
    spec, problems = read_spec(parse_document(CAMPAIGN, "c.yaml"), base_dir=tmp_path)
    with Store(tmp_path / "store", write=True) as store:
        gates = Gates(base_dir=tmp_path)
        plan = make_plan(spec, problems, gates, store)
        record = run_plan(plan, store, gates, replay=Replay(source="c.yaml"))
    for mine, theirs in zip(result.evidence, record.trials, strict=True):
        clock = "seconds of the defense"
        assert [m for m in mine.measurements if m.name != clock] == [
            m for m in theirs.evidence.measurements if m.name != clock
        ]
        assert mine.flags == theirs.evidence.flags
        assert mine.spent == theirs.evidence.spent
    assert result["badnets", "attack success rate"].value is not None
    assert str(result).count("attack success rate: ") == 2
    page = result.report(tmp_path / "report.html", name="poison").read_text()
    assert "badnets" in page
    assert "fine-tuning" in page
    assert result.picture(tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Factories of a user's own networks, in a module beside the script."""
    monkeypatch.setattr(owning, "_DECLARED", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_nets(tmp_path)
    forget()
    yield importlib.import_module("own_net")
    forget()


def test_your_own_network_is_poisoned_as_in_a_campaign(splits, nets, tmp_path):
    text = CAMPAIGN.replace(
        "architecture: lenet", 'factory: "own_net:make", arguments: {width: 3}'
    ).replace(", {name: gradient-matching, target: 3, steps: 2}", "")
    spec, problems = read_spec(parse_document(text, "c.yaml"), base_dir=tmp_path)
    with Store(tmp_path / "store", write=True) as store:
        gates = Gates(base_dir=tmp_path)
        plan = make_plan(spec, problems, gates, store)
        record = run_plan(plan, store, gates, replay=Replay(source="c.yaml"))
    wanted = record.trials[0].settings
    for factory in (
        partial(nets.make, width=3),
        cm.own_architecture("own_net:make", splits[0], arguments={"width": 3}),
    ):
        result = cm.attack_training(
            factory,
            *splits,
            cm.BadNets(size=2),
            recipe=RECIPE,
            defense=cm.FineTuning(epochs=1),
            clean=100,
            seed=4,
        )
        clock = "seconds of the defense"
        assert [m for m in result.evidence[0].measurements if m.name != clock] == [
            m for m in record.trials[0].evidence.measurements if m.name != clock
        ]
        assert result.model == wanted["model_digest"]
        assert result.trials[0].settings["model"] == wanted["model"]


def test_a_name_and_a_committee_of_your_own_network(splits, nets):
    assert nets.lazy is not None
    result = cm.attack_training(
        "own_net:lazy",
        *splits,
        None,
        recipe=cm.Recipe(epochs=1),
        defense=cm.PartitionAggregation(partitions=3),
    )
    assert result["certified poisons"].n == len(splits[1])


def test_a_model_of_your_own_network_is_loaded_where_that_is_declared(splits, nets, tmp_path):
    model = cm.train(cm.own_architecture(nets.make, splits[0]), cm.Recipe(epochs=1), splits[0])
    model.save(tmp_path / "model.safetensors")
    owning._DECLARED.clear()
    with pytest.raises(UsageError, match="declare the factory"):
        cm.TrainedModel.load(tmp_path / "model.safetensors")
    cm.own_architecture(nets.make, splits[0])
    back = cm.TrainedModel.load(tmp_path / "model.safetensors")
    x = splits[1].batch(slice(0, 8))
    assert torch.equal(back.target().scores(x), model.target().scores(x))


def test_nobody_shows_what_a_defense_costs(splits):
    result = cm.attack_training(
        cm.LeNet(),
        *splits,
        None,
        recipe=cm.Recipe(epochs=1),
        defense=cm.NearDuplicates(),
    )
    assert "attack success rate" not in str(result)
    assert str(result).startswith("no attack: clean accuracy: ")
    assert result["accuracy without the attack"].n == len(splits[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": []}, "there is no attack; give at least one, such as casemate.BadNets"),
        ({"attacks": cm.FGSM()}, "is no attack on training"),
        ({"attacks": [cm.BadNets]}, "is no attack on training"),
        ({"attacks": cm.BadNets(target=10)}, "target is 10, but the classes of digits/train are"),
        ({"attacks": cm.BadNets(size=9)}, "size is 9, but a patch of 9 pixels"),
        ({"architecture": "lenet"}, "is no architecture that Casemate trains; give casemate.LeNet"),
        ({"architecture": cm.LeNet}, "is no architecture that Casemate trains; give casemate.Le"),
        ({"architecture": torch.nn.Linear(64, 10)}, "the factory is of type Linear; give the"),
        ({"architecture": "not_there:make"}, 'there is no module "not_there"'),
        ({"architecture": torch.nn.Flatten}, "builds a network without weights to train"),
        ({"architecture": lambda: None, "train": [1]}, "is no architecture that Casemate trains"),
        ({"train": [1]}, "train is of type list"),
        ({"defense": cm.Median()}, "is no defense at training"),
        ({"defense": cm.FineTuning()}, "fine-tuning needs clean samples and gets none; set clean"),
        ({"defense": cm.KNNDisagreement(k=5000)}, r"knn-disagreement\.k is 5000, but each of the"),
        ({"clean": 2000}, "clean asks for 2000 samples"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(
    splits, change, words, monkeypatch
):
    monkeypatch.setattr("casemate.training.making.train", None)
    call = {
        "architecture": cm.LeNet(),
        "train": splits[0],
        "test": splits[1],
        "attacks": cm.BadNets(size=2),
    }
    with pytest.raises(UsageError, match=words):
        cm.attack_training(**(call | change))
    with pytest.raises(UsageError, match="give two splits of one set"):
        cm.attack_training(**(call | {"test": cm.Dataset.from_arrays(**OTHER)}))


OTHER = {
    "name": "other",
    "inputs": np.zeros((2, 1), dtype=np.float32),
    "labels": np.arange(2),
    "classes": ("a", "b"),
    "domain": cm.Domain(shape=(1,)),
}


def test_all_that_stands_at_the_training_gate_can_be_had_from_the_top():
    for kind in ("attack", "defense", "model"):
        for name in registry.names(kind):
            cls = registry.get(kind, name)
            assert getattr(cm, cls.__name__) is cls, name


def test_the_pages_example_runs(splits, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "training-attacks.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    quick = re.sub(r"epochs=\d+", "epochs=1", code)
    assert quick != code
    names = {}
    exec(compile(quick, "training-attacks.md", "exec"), names)  # noqa: S102 - our own page
    assert names["result"]["badnets", "attack success rate"].n > 0
    assert (tmp_path / "poison.html").exists()
