from __future__ import annotations

import numpy as np
import pytest
import torch
from shelves import FolderShelf

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.models.mlp import MLP
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.attacks.low_impact import LowImpact
from casemate.training.crew import share_out
from casemate.training.defenses.fine_tuning import FineTuning
from casemate.training.defenses.partition_aggregation import PartitionAggregation
from casemate.training.defenses.spectral_signatures import SpectralSignatures
from casemate.training.lab import Lab
from casemate.training.making import Making, Order, Scar, control_seed
from casemate.training.recipe import Recipe

FEW = Amount(count=6)


def images(n=60):
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        name="made",
        inputs=rng.integers(0, 256, (n, 1, 8, 8)).astype(np.uint8),
        labels=np.arange(n) % 3,
        classes=("a", "b", "c"),
        domain=Domain(shape=(1, 8, 8), step=1 / 255),
    )


def order(**settings):
    plain = {
        "architecture": MLP(hidden=(8,)),
        "recipe": Recipe(epochs=2, batch_size=16, precision="float32"),
        "seed": 3,
        "data": images(),
        "held": images(12),
        "known": images(9),
    }
    return Order(**{**plain, **settings})


def by_worker(making, shelf=None):
    made = []
    share_out([making], workers=1, done=lambda _, *found: made.append(found), shelf=shelf)
    return made[0]


def close(one, other):
    assert one.digest == other.digest
    for name, weight in one.weights.items():
        torch.testing.assert_close(weight, other.weights[name], rtol=1e-4, atol=1e-5)


def test_seeds_of_the_parties_differ_unless_the_defense_trains_the_model_itself():
    seeds = {
        "attacker": order().lab("attacker", None, None).seed,
        "defender": order(defense=FineTuning()).lab("defender", None, None).seed,
        "trainer": order(defense=PartitionAggregation()).lab("defender", None, None).seed,
    }
    assert seeds == {"attacker": 1_000_003, "defender": 2_000_003, "trainer": 3}
    assert control_seed(3) == 3_000_003
    assert order().lab("attacker", None, None).known is not None
    assert order().lab("defender", None, None).known is None


@pytest.mark.parametrize(
    "attack",
    [
        LabelFlips(amount=FEW),
        BadNets(amount=FEW),
        LowImpact(amount=FEW, rounds=0, ensemble=1, steps=3),
    ],
)
def test_a_scar_on_the_clean_set_is_the_poisoned_set(attack):
    wanted = order(attack=attack).poisoned(order().lab("attacker", None, None))
    found = Scar.of(wanted).on(images())
    assert found.dataset.digest == wanted.dataset.digest
    assert torch.equal(found.touched, wanted.touched)
    assert torch.equal(found.dataset.targets, wanted.dataset.targets)
    assert torch.equal(found.dataset.batch(slice(None)), wanted.dataset.batch(slice(None)))
    assert (found.trigger is None) == (wanted.trigger is None)


def test_a_worker_makes_the_model_that_is_made_here(tmp_path):
    attack = LowImpact(amount=FEW, rounds=0, ensemble=2, steps=3)
    asked = order(attack=attack)
    wanted = asked.poisoned(asked.lab("attacker", None, None))
    shelf = FolderShelf(tmp_path)
    making = Making(order=asked)
    model, content = by_worker(making, shelf)
    found = making.found(content)
    close(model, asked.train(wanted.dataset))
    assert found.dataset.digest == wanted.dataset.digest
    torch.testing.assert_close(found.trigger.pattern, wanted.trigger.pattern)
    # what comes back shares the data that are here
    assert found.dataset.inputs.data_ptr() == asked.data.inputs.data_ptr()
    assert len(shelf.kept) == 3  # two surrogates and a search


def test_without_an_attack_a_worker_trains_the_reference():
    making = Making(order=order())
    model, content = by_worker(making)
    assert making.found(content) is None
    close(model, order().train(images()))


def test_a_control_is_the_reference_of_another_seed():
    asked = order(attack=BadNets(amount=FEW), defense=FineTuning())
    control = asked.control()
    assert (control.attack, control.defense, control.known) == (None, None, None)
    assert control.seed == control_seed(asked.seed)
    assert control.data is asked.data
    assert (control.architecture, control.recipe) == (asked.architecture, asked.recipe)
    model, content = by_worker(Making(order=control))
    assert content is None
    reference = order().train(images())
    assert model.digest != reference.digest
    assert any(not torch.equal(w, reference.weights[k]) for k, w in model.weights.items())


@pytest.mark.parametrize(
    "defense", [SpectralSignatures(), FineTuning(), PartitionAggregation(partitions=3)]
)
def test_a_worker_defends_as_it_is_done_here(tmp_path, defense):
    asked = order(attack=BadNets(amount=FEW), defense=defense)
    poisoned = asked.poisoned(asked.lab("attacker", None, None))
    attacked = asked.train(poisoned.dataset)
    attacked.save(tmp_path / "attacked")
    lab = asked.lab("defender", None, None)
    wanted = asked.defended(
        poisoned, lambda d: attacked if d is poisoned.dataset else asked.train(d), lab
    )
    making = Making(order=asked, poisoned=poisoned, attacked=tmp_path / "attacked")
    model, facts = by_worker(making)
    found = making.found(facts)
    assert model.digest == wanted.model.digest
    assert {k: v for k, v in found.items() if k != "seconds"} == {
        k: v for k, v in wanted.facts.items() if k != "seconds"
    }
    if defense.phase != "during":
        close(model, wanted.model)
    assert isinstance(lab, Lab)
