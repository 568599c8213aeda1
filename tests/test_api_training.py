"""Attacks on training from Python, and the page's example of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

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
