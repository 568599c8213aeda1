"""What every defense that looks for poison before training promises, checked for each of them."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from functools import cache

import numpy as np
import pytest
import torch
from sanitizing import SETS, lab, made

from casemate.random import stream
from casemate.threats import Stage
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.defenses.activation_clustering import ActivationClustering
from casemate.training.defenses.confident_learning import ConfidentLearning
from casemate.training.defenses.knn_disagreement import KNNDisagreement
from casemate.training.defenses.near_duplicates import NearDuplicates
from casemate.training.defenses.removal import removed, spared
from casemate.training.defenses.spectral_signatures import SpectralSignatures

DEFENSES = {
    "spectral": SpectralSignatures(),
    "clustering": ActivationClustering(),
    "clustering, pca, both": ActivationClustering(reduction="pca", decision="both"),
    "clustering, silhouette": ActivationClustering(decision="silhouette"),
    "confident": ConfidentLearning(folds=2),
    "confident, class": ConfidentLearning(folds=3, method="class"),
    "confident, relabel": ConfidentLearning(folds=2, method="confusion", action="relabel"),
    "k-nn": KNNDisagreement(k=5),
    "copies": NearDuplicates(tolerance=0.3, crowd=3),
    "exact copies": NearDuplicates(tolerance=0),
}
FLIPS = LabelFlips(amount=Amount(count=8))

every_defense = pytest.mark.parametrize("defense", DEFENSES.values(), ids=DEFENSES)
on_every_set = pytest.mark.parametrize("data", SETS)
by_every_defense = pytest.mark.parametrize("name", DEFENSES)


def sanitized(defense, data, seed=1):
    return defense.sanitize(data, stream(seed, "test"), lab())


@cache
def result(name, data):
    """The set as it was, its inputs and labels before, and what became of it."""
    before = whole(SETS[data]), SETS[data].targets.clone()
    return SETS[data], before, sanitized(DEFENSES[name], SETS[data])


def whole(data):
    return data.batch(slice(None))


@by_every_defense
@on_every_set
def test_the_suspects_are_exactly_what_is_missing(name, data):
    data, _, found = result(name, data)
    n = len(data)
    assert found.suspects.dtype == torch.int64
    assert torch.equal(found.suspects, found.suspects.unique())
    if "relabel" in name:
        changed = found.dataset.targets != data.targets
        assert torch.equal(changed.nonzero().flatten(), found.suspects)
        assert torch.equal(found.dataset.rows, data.rows)
    else:
        kept = data.rows[~torch.isin(torch.arange(n), found.suspects)]
        assert torch.equal(found.dataset.rows, kept)
        assert torch.equal(found.dataset.targets, data.labels[kept])
    assert found.scores.shape == (n,)
    assert found.scores.dtype == torch.float32
    json.dumps(found.notes)


@by_every_defense
@on_every_set
def test_no_class_is_lost(name, data):
    data, _, found = result(name, data)
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[found.suspects] = False
    assert data.targets[kept].unique().tolist() == data.targets.unique().tolist()
    assert set(data.targets.tolist()) <= set(found.dataset.targets.tolist())


@by_every_defense
@on_every_set
def test_the_set_is_left_as_it_is_and_its_memory_shared(name, data):
    data, (before, labels), found = result(name, data)
    assert torch.equal(whole(data), before)
    assert torch.equal(data.targets, labels)
    assert found.dataset.inputs is data.inputs


@every_defense
def test_the_same_stream_gives_the_same_suspects(defense):
    data = FLIPS.poison(SETS["gray bytes"], stream(0, "flips")).dataset
    first, again = (sanitized(defense, data) for _ in range(2))
    assert torch.equal(first.suspects, again.suspects)
    assert torch.equal(first.scores, again.scores)
    assert first.dataset.digest == again.dataset.digest
    assert (first.dataset.digest == data.digest) == (len(first.suspects) == 0)
    assert first.notes == again.notes


@every_defense
def test_the_global_random_states_are_left(defense):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state is what is looked at
    before, old = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    sanitized(defense, SETS["gray bytes"])
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == old).all()  # noqa: NPY002


@every_defense
def test_a_view_is_cleaned_as_a_set_of_its_own(defense):
    data = SETS["color bytes"]
    view = data.select(torch.arange(len(data) - 1, 9, -1), how="reversed")
    found = sanitized(defense, view)
    kept = ~torch.isin(torch.arange(len(view)), found.suspects)
    if getattr(defense, "action", "remove") == "remove":
        assert torch.equal(found.dataset.rows, view.rows[kept])


@every_defense
def test_what_it_says_of_itself(defense):
    assert is_dataclass(defense)
    assert type(defense).__dataclass_params__.frozen
    assert defense.stage is Stage.TRAINING
    assert defense.phase == "before"
    assert defense.needs_clean is False
    assert defense.revision >= 1


def test_a_class_of_suspects_keeps_the_least_suspicious():
    labels = torch.tensor([0, 0, 0, 2, 2, 5])
    suspicious = torch.tensor([True, True, True, True, False, True])
    scores = torch.tensor([3.0, 1.0, 2.0, 9.0, 0.0, torch.nan])
    expected = [True, False, True, True, False, False]
    assert spared(suspicious, scores, labels).tolist() == expected


def test_nobody_suspected_is_the_same_set():
    data = SETS["gray bytes"]
    nobody = torch.zeros(len(data), dtype=torch.bool)
    assert removed(data, nobody, nobody.float(), how=(), notes={}).dataset is data


def test_other_suspects_have_another_digest():
    data = made((1, 8, 8))
    masks = torch.eye(len(data), dtype=torch.bool)
    digests = {
        removed(data, m, m.float(), how=("test",), notes={}).dataset.digest for m in masks[:5]
    }
    assert len(digests) == 5
