"""What every defense that trains in another way promises, checked for each of them."""

from __future__ import annotations

import json
from dataclasses import is_dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from sanitizing import SETS, in_turn, lab

from casemate.errors import UsageError
from casemate.random import stream
from casemate.threats import Stage
from casemate.training.committee import Committee
from casemate.training.defenses.anti_backdoor import AntiBackdoorLearning
from casemate.training.defenses.partition_aggregation import PartitionAggregation
from casemate.training.defenses.robust_losses import RobustLoss
from casemate.training.defenses.weight_clipping import WeightClipping

DEFENSES = {
    "generalized": RobustLoss(),
    "symmetric": RobustLoss(loss="symmetric"),
    "anti-backdoor": AntiBackdoorLearning(isolated=0.1, unlearning_epochs=2),
    "clipped": WeightClipping(),
    "partitions": PartitionAggregation(partitions=2),
}
OTHER = {
    "generalized": {"q": 0.3},
    "symmetric": {"alpha": 0.5},
    "anti-backdoor": {"unlearning_rate": 0.01},
    "clipped": {"limit": 0.05},
    "partitions": {"partitions": 1},
}


@pytest.fixture(autouse=True)
def _in_turn(monkeypatch):
    """Models here are so small that processes cost more than they save."""
    in_turn(monkeypatch)


every_defense = pytest.mark.parametrize("name", DEFENSES)


def trained(defense, data, *, seed=1, place=None):
    return defense.train(data, stream(seed, "test"), place or lab())


@cache
def result(name, data):
    return trained(DEFENSES[name], SETS[data])


def weights(model):
    members = model.members if isinstance(model, Committee) else (model,)
    return [w for m in members for w in m.weights.values()]


def same(a, b):
    return all(torch.equal(v, w) for v, w in zip(weights(a), weights(b), strict=True))


@every_defense
@pytest.mark.parametrize("data", [n for n in SETS if n != "classes of 0, 1 and 2"])
def test_it_answers_for_every_kind_of_data_and_leaves_the_data(name, data):
    before = SETS[data].batch(slice(None)), SETS[data].targets.clone()
    model = result(name, data).model
    scores = model.target().scores(before[0])
    assert scores.shape == (len(before[0]), len(SETS[data].classes))
    assert scores.isfinite().all()
    assert torch.equal(SETS[data].batch(slice(None)), before[0])
    assert torch.equal(SETS[data].targets, before[1])


@every_defense
def test_the_same_stream_and_seed_give_the_same_model(name):
    first, again = result(name, "gray bytes"), trained(DEFENSES[name], SETS["gray bytes"])
    assert same(first.model, again.model)
    assert first.model.digest == again.model.digest
    assert first.notes == again.notes
    place = lab()
    place.seed += 1
    other = trained(DEFENSES[name], SETS["gray bytes"], place=place)
    assert not same(first.model, other.model)
    assert first.model.digest != other.model.digest


@every_defense
def test_parameters_revision_data_and_recipe_are_part_of_the_digest(name):
    defense, data = DEFENSES[name], SETS["gray bytes"]
    base = result(name, "gray bytes").model
    revised = type("Later", (type(defense),), {"revision": 99})(**vars(defense))
    longer, plain = lab(), lab().trained(data)
    longer.recipe = replace(longer.recipe, batch_size=9)
    digests = {
        base.digest,
        plain.digest,
        trained(replace(defense, **OTHER[name]), data).model.digest,
        trained(revised, data).model.digest,
        trained(defense, data.select(torch.arange(50), how="fewer")).model.digest,
        trained(defense, data, place=longer).model.digest,
    }
    assert len(digests) == 6


@every_defense
def test_the_global_random_states_are_left(name):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state is what is looked at
    before, old = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained(DEFENSES[name], SETS["gray bytes"])
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == old).all()  # noqa: NPY002


@every_defense
def test_what_it_trains_is_counted(name):
    place = lab()
    trained(DEFENSES[name], SETS["gray bytes"], place=place)
    models, samples = {
        "generalized": (1, 2 * 60),
        "symmetric": (1, 2 * 60),
        "clipped": (1, 2 * 60),
        "anti-backdoor": (1, 60 + 54 + 2 * 6),
        "partitions": (2, 2 * 60),
    }[name]
    assert (place.models, place.samples) == (models, samples)


@every_defense
def test_what_it_says_of_itself(name):
    defense = DEFENSES[name]
    assert is_dataclass(defense)
    assert type(defense).__dataclass_params__.frozen
    assert defense.stage is Stage.TRAINING
    assert defense.phase == "during"
    assert defense.needs_clean is False
    assert defense.revision >= 1
    notes = result(name, "gray bytes").notes
    assert json.loads(json.dumps(notes)) == notes


@pytest.mark.parametrize(
    ("defense", "bad", "message"),
    [
        (RobustLoss, {"loss": "square"}, 'loss cannot be "square"'),
        (RobustLoss, {"q": 0}, "q must be"),
        (RobustLoss, {"q": 1.1}, "q must be"),
        (RobustLoss, {"alpha": -1}, "alpha must be"),
        (RobustLoss, {"beta": float("nan")}, "beta must be"),
        (RobustLoss, {"log_of_zero": 0}, "log_of_zero must be below 0"),
        (RobustLoss, {"log_of_zero": 1}, "log_of_zero must be"),
        (RobustLoss, {"loss": "symmetric", "alpha": 0, "beta": 0}, "both 0"),
        (AntiBackdoorLearning, {"isolation": 0}, "isolation must be"),
        (AntiBackdoorLearning, {"isolation": 1.0}, "isolation must be"),
        (AntiBackdoorLearning, {"gamma": -0.1}, "gamma must be"),
        (AntiBackdoorLearning, {"isolated": 0}, "isolated must be"),
        (AntiBackdoorLearning, {"isolated": 0.6}, "isolated must be"),
        (AntiBackdoorLearning, {"unlearning_epochs": 0}, "unlearning_epochs must be"),
        (AntiBackdoorLearning, {"unlearning_rate": 0}, "unlearning_rate must be"),
        (PartitionAggregation, {"partitions": 0}, "partitions must be"),
        (PartitionAggregation, {"partitions": 2.0}, "partitions must be"),
        (PartitionAggregation, {"partitions": True}, "partitions must be"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(defense, bad, message):
    with pytest.raises(UsageError, match=message):
        defense(**bad)
