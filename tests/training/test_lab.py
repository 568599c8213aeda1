from __future__ import annotations

import numpy as np
import torch
from shelves import FolderShelf

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.models.mlp import MLP
from casemate.training.lab import Lab
from casemate.training.loop import train
from casemate.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=8, precision="float32")


def data(n=24):
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        name="made",
        inputs=rng.random((n, 4)).astype(np.float32),
        labels=np.arange(n) % 2,
        classes=("a", "b"),
        domain=Domain(shape=(4,)),
    )


def test_models_are_trained_from_the_labs_seed_and_counted():
    lab = Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE, seed=7)
    found = lab.trained(data(), number=2)
    assert found.seed == lab.seed_of(2)
    assert (lab.models, lab.samples) == (1, 48)
    alone = train(lab.architecture, RECIPE, data(), seed=lab.seed_of(2))
    assert found.digest == alone.digest
    assert all(torch.equal(w, alone.weights[n]) for n, w in found.weights.items())


def test_labs_of_neighboring_seeds_share_no_model():
    labs = [Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE, seed=s) for s in range(50)]
    assert labs[7].seed_of(0) == 7
    assert len({lab.seed_of(i) for lab in labs for i in range(20)}) == 50 * 20


def test_a_shelf_is_asked_by_the_digest_of_what_would_be_made(tmp_path):
    shelf = FolderShelf(tmp_path)
    lab = Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE, shelf=shelf)
    first, again = lab.trained(data()), lab.trained(data())
    assert shelf.kept == [first.digest]
    assert shelf.asked == [first.digest] * 2
    assert all(torch.equal(w, again.weights[n]) for n, w in first.weights.items())
    # models that were there already are counted as well: the figure must not depend on a cache
    assert lab.models == 2


def test_a_tensor_is_computed_once_for_what_decides_it(tmp_path):
    made = []

    def compute():
        made.append(1)
        return torch.arange(6.0).view(2, 3).t()

    def lab(seed, shelf):
        return Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE, seed=seed, shelf=shelf)

    shelf = FolderShelf(tmp_path)
    wanted = torch.arange(6.0).view(2, 3).t()
    for seed, how, count in ((1, "a", 1), (1, "a", 1), (1, ("a", 2), 2), (2, "a", 3)):
        assert torch.equal(lab(seed, shelf).computed(how, compute), wanted)
        assert len(made) == count
    for _ in range(2):
        assert torch.equal(lab(1, None).computed("a", compute), wanted)
    assert len(made) == 5


def test_another_architecture_and_recipe_can_be_asked_for():
    lab = Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE)
    found = lab.trained(
        data(), architecture=MLP(hidden=(3,)), recipe=Recipe(epochs=1, batch_size=8)
    )
    assert found.architecture == MLP(hidden=(3,))
    assert lab.samples == 24
