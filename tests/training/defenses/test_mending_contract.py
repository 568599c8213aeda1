"""What every defense that mends a model promises, checked for each of them."""

from __future__ import annotations

import json
import random
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
import torch
from mended_models import KINDS, lab_of, made, trained
from worked import worked

from casemate.errors import UsageError
from casemate.random import stream
from casemate.threats import Stage
from casemate.training.defenses.adversarial_pruning import AdversarialPruning
from casemate.training.defenses.fine_pruning import FinePruning
from casemate.training.defenses.fine_tuning import FineTuning
from casemate.training.defenses.i_bau import IBAU
from casemate.training.defenses.neural_cleanse import NeuralCleanse
from casemate.training.passes import DOUBLE, FORWARD

DEFENSES = {
    "fine-tuning": FineTuning(epochs=2, batch_size=16),
    "fine-pruning": FinePruning(epochs=2, batch_size=16, tolerance=0.5),
    "neural cleanse": NeuralCleanse(steps=4, batches=1, batch_size=8, threshold=0.1),
    "adversarial pruning": AdversarialPruning(
        iterations=6, batch_size=8, learning_rate=2.0, threshold=0.99
    ),
    "i-bau": IBAU(rounds=2, batch_size=20),
}
every_defense = pytest.mark.parametrize("defense", DEFENSES.values(), ids=DEFENSES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def repaired(defense, kind, seed=1, data=None):
    model, clean = trained(kind)
    return defense.repair(model, stream(seed, "test"), lab_of(model), data or clean)


def same(a, b):
    return all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


@every_defense
@every_kind
def test_what_it_computes_is_foreseen(defense, kind, monkeypatch):
    model, clean = trained(kind)
    with worked(monkeypatch, len(model.classes)) as counts:
        repaired(defense, kind)
    (passes,) = defense.passes(clean, lab_of(model), clean)
    most = passes.samples
    if isinstance(defense, IBAU):
        # the ways back through one gradient are no ways forward
        most *= 3 / (1 + FORWARD + 1 + DOUBLE + 2 * (defense.fixed_points + 1))
    # where the last batch is not full, and samples that accuracy is measured on
    assert 0.6 * most <= counts["classifier"] <= most
    assert passes.network is None


@every_defense
@every_kind
def test_the_weights_are_others_and_fit_and_the_stream_decides(defense, kind):
    model, _ = trained(kind)
    before = {k: v.clone() for k, v in model.weights.items()}
    first, again, other = (repaired(defense, kind, seed) for seed in (1, 1, 2))
    first.model.check()
    assert all(torch.equal(before[k], v) for k, v in model.weights.items())
    assert all(v.isfinite().all() for v in first.model.weights.values())
    assert not same(first.model, model)
    assert same(first.model, again.model)
    assert first.model.digest == again.model.digest
    assert len({first.model.digest, other.model.digest, model.digest}) == 3
    assert (first.found, first.score, first.notes) == (again.found, again.score, again.notes)
    assert replace(first.model, weights=model.weights, digest=model.digest).recipe is model.recipe


@every_defense
def test_parameters_and_clean_samples_are_part_of_the_digest(defense):
    model, clean = trained("features")
    first = repaired(defense, "features").model.digest
    fewer = clean.select(torch.arange(40), how="first")
    name = "rounds" if isinstance(defense, IBAU) else "batch_size"
    changed = replace(defense, **{name: 5})
    assert len({first, repaired(changed, "features").model.digest}) == 2
    assert repaired(defense, "features", data=fewer).model.digest != first
    later = type(defense)
    revised = type("Later", (later,), {"revision": later.revision + 1})(**vars(defense))
    assert revised.repair(model, stream(1, "test"), lab_of(model), clean).model.digest != first


@every_defense
def test_global_random_numbers_stay(defense):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the legacy state is the one to guard
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    repaired(defense, "color vgg")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


@every_defense
def test_the_defaults_stream_decides_whatever_the_global_state(defense):
    torch.manual_seed(1)
    first = repaired(defense, "color vgg")
    torch.manual_seed(2)
    assert same(first.model, repaired(defense, "color vgg").model)


@every_defense
def test_without_clean_samples_it_says_what_to_set(defense):
    model, clean = trained("features")
    empty = clean.select(torch.arange(0), how="none")
    for none in (None, empty):
        with pytest.raises(
            UsageError, match=r"needs clean samples; set training\.clean to how many to hold out"
        ):
            defense.repair(model, stream(1, "test"), lab_of(model), none)
    one = clean.select(torch.arange(1), how="one")
    with pytest.raises(UsageError, match="at least 2 clean samples"):
        defense.repair(model, stream(1, "test"), lab_of(model), one)


@every_defense
def test_that_clean_samples_are_too_few_is_said_before_training(defense):
    model, clean = trained("features")
    place = lab_of(model)
    defense.check(clean, place, clean)
    for few in (None, *(clean.select(torch.arange(n), how="few") for n in (0, 1))):
        with pytest.raises(UsageError) as ahead:
            defense.check(clean, place, few)
        with pytest.raises(UsageError) as late:
            defense.repair(model, stream(1, "test"), place, few)
        assert str(ahead.value) == str(late.value)


@every_defense
def test_clean_samples_of_other_data_are_refused(defense):
    model, _ = trained("features")
    for other in (made((8,), kind=np.float32, classes=2), made((7,), kind=np.float32)):
        with pytest.raises(UsageError, match="give clean samples of the model's domain"):
            defense.repair(model, stream(1, "test"), lab_of(model), other)


@every_defense
def test_what_it_says_of_itself(defense):
    assert is_dataclass(defense)
    assert type(defense).__dataclass_params__.frozen
    assert defense.stage is Stage.TRAINING
    assert defense.phase == "after"
    assert defense.needs_clean is True
    assert isinstance(defense.revision, int)
    result = repaired(defense, "gray lenet")
    assert json.loads(json.dumps(result.notes)) == result.notes


@pytest.mark.parametrize(
    ("defense", "bad"),
    [
        (FineTuning, {"epochs": 0}),
        (FineTuning, {"batch_size": 1}),
        (FineTuning, {"learning_rate": 0}),
        (FineTuning, {"momentum": 1.0}),
        (FineTuning, {"weight_decay": -1e-4}),
        (FinePruning, {"tolerance": 1.0}),
        (FinePruning, {"tolerance": -0.1}),
        (FinePruning, {"step": 0}),
        (FinePruning, {"validation": 0}),
        (FinePruning, {"validation": 1.0}),
        (FinePruning, {"learning_rate": float("nan")}),
        (NeuralCleanse, {"steps": 0}),
        (NeuralCleanse, {"batches": 1.5}),
        (NeuralCleanse, {"initial_cost": 0}),
        (NeuralCleanse, {"multiplier": 1}),
        (NeuralCleanse, {"success": 1.1}),
        (NeuralCleanse, {"patience": 0}),
        (NeuralCleanse, {"share": 0}),
        (NeuralCleanse, {"tuning_batch_size": 1}),
        (AdversarialPruning, {"bound": -0.1}),
        (AdversarialPruning, {"clean_share": 1.1}),
        (AdversarialPruning, {"ascents": 0}),
        (AdversarialPruning, {"iterations": 0}),
        (AdversarialPruning, {"batch_size": 1}),
        (AdversarialPruning, {"threshold": 1.0}),
        (IBAU, {"rounds": 0}),
        (IBAU, {"fixed_points": 0}),
        (IBAU, {"share": 0}),
        (IBAU, {"bound": 0}),
        (IBAU, {"penalty": -1}),
        (IBAU, {"implicit_step": 0}),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else str(v),
)
def test_bad_parameters_are_refused(defense, bad):
    (name,) = bad
    with pytest.raises(UsageError, match=f"{name} must be"):
        defense(**bad)
