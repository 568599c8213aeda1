"""Forgetting events, counted by hand and in a training."""

from __future__ import annotations

import numpy as np
import torch

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.models.mlp import MLP
from casemate.training.forgetting import Forgetting
from casemate.training.lab import Lab
from casemate.training.loop import train
from casemate.training.recipe import Recipe

RECIPE = Recipe(epochs=4, batch_size=10, learning_rate=0.3, precision="float32")
NETWORK = MLP(hidden=(6,))


def data(n=40):
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        name="made",
        inputs=rng.random((n, 4)).astype(np.float32),
        labels=rng.integers(0, 2, n),
        classes=("a", "b"),
        domain=Domain(shape=(4,)),
    )


def test_a_sample_is_forgotten_when_it_turns_wrong_after_it_was_right():
    # sample: the answers each time that it is shown
    shown = {
        0: [True, True, True, True],  # never forgotten
        1: [False, True, False, True],  # once; being wrong at first is no forgetting
        2: [True, False, True, False],  # twice
        3: [False, False, False, False],  # never learned: more than anything else
    }
    count = Forgetting(5)
    for turn in range(4):
        for pair in ([3, 1], [0, 2]):
            right = torch.tensor([shown[i][turn] for i in pair])
            count(torch.tensor(pair), right)
    assert count.events.tolist() == [0, 1, 2, 4, 0]  # the last one was never shown


def test_training_tells_which_samples_were_read_right():
    told = []
    model = train(NETWORK, RECIPE, data(), seed=3, seen=lambda p, r: told.append((p, r)))
    assert torch.cat([p for p, _ in told]).sort().values.tolist() == sorted(4 * list(range(40)))
    for epoch, entry in enumerate(model.history):
        right = torch.cat([r for _, r in told[4 * epoch : 4 * epoch + 4]])
        assert abs(float(right.float().mean()) - entry.accuracy) < 1e-6
    # who listens changes nothing
    alone = train(NETWORK, RECIPE, data(), seed=3)
    assert all(torch.equal(w, alone.weights[n]) for n, w in model.weights.items())


def test_a_lab_counts_the_events_of_the_training_that_it_names():
    lab = Lab(architecture=NETWORK, recipe=RECIPE, seed=7)
    count = Forgetting(40)
    train(NETWORK, RECIPE, data(), seed=lab.seed_of(2), seen=count)
    found = lab.forgetting(data(), number=2)
    assert torch.equal(found, count.events)
    assert len(found.unique()) > 1
    assert (lab.models, lab.samples) == (1, 160)
