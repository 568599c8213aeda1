from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from casemate.data.dataset import Dataset
from casemate.data.digits import Digits
from casemate.data.domain import Domain
from casemate.data.mnist import MNIST
from casemate.errors import UsageError
from casemate.models.accuracy import accuracy
from casemate.models.lenet import LeNet
from casemate.models.mlp import MLP
from casemate.models.vgg import VGG
from casemate.training.adversarial import Adversarial
from casemate.training.augmentation import Augmentation
from casemate.training.loop import train
from casemate.training.recipe import Recipe
from casemate.training.trained import training_key

AUGMENTATION = Augmentation(shift=1, rotation=5, brightness=0.1)
SMALL = Recipe(epochs=2, batch_size=8, learning_rate=0.05, augmentation=AUGMENTATION)
TINY = VGG(layers=(4, "M", 8, "M"), dropout=0.2)


def noise(n=40, shape=(1, 8, 8), classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Dataset(
        name="stub/train",
        inputs=torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=g),
        labels=torch.arange(n) % classes,
        classes=tuple("abcdefgh"[:classes]),
        domain=Domain(shape=shape, step=1 / 255),
        digest=f"noise {n} {shape} {classes} {seed}",
    )


def bits(model):
    return {k: v.numpy().tobytes() for k, v in model.weights.items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small gain nothing by a second one, and lose much when the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    source = Digits()
    return source.load("train"), source.load("test")


def test_lenet_reads_digits_within_seconds(digits):
    training, test = digits
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=0.05)
    model = train(LeNet(), recipe, training, seed=0)
    measured = accuracy(model.target(), test)
    assert measured.n == len(test)
    assert measured.value >= 0.95
    # the target's preprocessing and the training's are one: both see the same accuracy
    assert accuracy(model.target(), training).value > model.history[-1].accuracy - 0.03
    assert model.history[-1].loss < 0.2 * model.history[0].loss


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"adversarial": Adversarial(epsilon=0.1, step_size=0.05, steps=2)},
        {"channels_last": False, "optimizer": "adamw", "learning_rate": 0.01},
    ],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_the_same_seed_gives_the_same_bits_whatever_the_global_state(changes):
    recipe = Recipe(**{"epochs": 2, "batch_size": 8, "augmentation": AUGMENTATION, **changes})
    torch.manual_seed(1)
    first = train(TINY, recipe, noise(), seed=5)
    torch.manual_seed(2)
    torch.rand(3)
    again = train(TINY, recipe, noise(), seed=5)
    other = train(TINY, recipe, noise(), seed=6)
    assert bits(first) == bits(again)
    assert first.history == again.history
    assert first.digest == again.digest
    assert bits(first)["conv2.weight"] != bits(other)["conv2.weight"]
    assert first.digest != other.digest


def test_nobody_elses_random_numbers_are_used():
    before = (torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002 - the global state is what must not change
    train(TINY, SMALL, noise(), seed=5)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002 - as above


def test_a_failed_training_restores_the_random_state_too():
    before = torch.random.get_rng_state()

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, SMALL, noise(), progress=stop)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_step_of_a_linear_model_is_the_gradient_descent_step():
    """With one full batch the step is known in closed form: W - rate (p - y) x^T."""
    data = noise(n=6, shape=(5,), classes=3)
    plain = {"schedule": "constant", "epochs": 1, "batch_size": 6, "momentum": 0}
    plain["precision"] = "float32"  # some processors would train in bfloat16
    recipe = Recipe(learning_rate=0.5, weight_decay=0.1, **plain)
    # a rate so small that the weights stay where they were drawn
    still = Recipe(learning_rate=1e-30, weight_decay=0, **plain)
    start = train(MLP(hidden=()), still, data).weights
    end = train(MLP(hidden=()), recipe, data)
    x = end.preprocessing(data.batch(slice(None)))
    p = (x @ start["out.weight"].T + start["out.bias"]).softmax(1)
    error = (p - torch.nn.functional.one_hot(data.targets, 3)) / 6
    weight = start["out.weight"] - 0.5 * (error.T @ x + 0.1 * start["out.weight"])
    bias = start["out.bias"] - 0.5 * error.sum(0)  # weight decay spares it
    torch.testing.assert_close(end.weights["out.weight"], weight)
    torch.testing.assert_close(end.weights["out.bias"], bias)


def test_adversarial_training_buys_robustness(digits):
    """A model trained on attacked digits withstands what fools the one trained on clean ones."""
    training, test = digits
    attack = Adversarial(epsilon=0.1, step_size=0.05, steps=4)
    clean_recipe = Recipe(epochs=6, batch_size=32, learning_rate=0.05)
    robust_recipe = Recipe(epochs=6, batch_size=32, learning_rate=0.05, adversarial=attack)

    def withstands(recipe):
        target = train(MLP(), recipe, training).target()
        x, y = test.batch(slice(None)), test.targets

        def loss(points):
            return torch.nn.functional.cross_entropy(target.scores(points), y, reduction="sum")

        worst = attack(x, loss, test.domain, torch.Generator().manual_seed(0))
        return float((target.labels(worst) == y).float().mean())

    assert withstands(robust_recipe) > withstands(clean_recipe) + 0.1


@pytest.mark.data
def test_lenet_reads_mnist_after_two_epochs(data_dir):
    training, test = MNIST().load("train"), MNIST().load("test")
    recipe = Recipe(epochs=2, batch_size=128, learning_rate=0.1)
    assert accuracy(train(LeNet(), recipe, training).target(), test).value >= 0.985


def test_progress_counts_up_to_the_end_and_is_told_once_an_epoch_at_least():
    told = []
    model = train(TINY, SMALL, noise(), progress=told.append)
    steps = [t.step for t in told]
    assert steps == sorted(set(steps))
    assert {(t.epoch, t.step) for t in told} >= {(1, 5), (2, 10)}
    assert {(t.epochs, t.steps) for t in told} == {(2, 10)}
    assert told[-1].seconds_left == 0
    assert all(a.seconds <= b.seconds for a, b in pairwise(told))
    ends = [t for t in told if t.step in (5, 10)]
    assert [(t.loss, t.accuracy) for t in ends] == [(e.loss, e.accuracy) for e in model.history]


def test_stored_inputs_are_left_as_they_are():
    for data in (noise(), noise(shape=(6,))):
        as_float = Dataset(
            name="float/train",
            inputs=data.batch(slice(None)),
            labels=data.labels,
            classes=data.classes,
            domain=data.domain,
            digest="float",
        )
        kept = as_float.inputs.clone()
        architecture = TINY if data.domain.is_image else MLP(hidden=(4,))
        recipe = SMALL if data.domain.is_image else Recipe(epochs=1, batch_size=8)
        train(architecture, recipe, as_float)
        assert torch.equal(as_float.inputs, kept)


def test_a_diverging_training_ends_in_one_sentence():
    with pytest.raises(UsageError, match=r"training diverged: .*; lower recipe\.learning_rate"):
        train(MLP(), Recipe(epochs=5, batch_size=8, learning_rate=1e30), noise())


@pytest.mark.parametrize(
    ("data", "recipe", "message"),
    [
        (noise(n=1), SMALL, "stub/train has 1 samples; training needs at least 2"),
        (noise(classes=1), SMALL, "at least 2 classes, but the data has 1"),
        (noise(shape=(5,)), SMALL, r"recipe\.augmentation is for images, .* holds features"),
        (noise(shape=(5,)), Recipe(), r"vgg takes images"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(data, recipe, message):
    with pytest.raises(UsageError, match=message):
        train(TINY, recipe, data)


def test_batches_larger_than_the_data_take_all_of_it():
    model = train(TINY, Recipe(epochs=1, batch_size=1000), noise(n=5))
    assert len(model.history) == 1


def test_the_key_is_known_before_training_and_follows_what_made_the_model():
    data = noise()
    model = train(TINY, SMALL, data, seed=3)
    assert training_key(TINY, SMALL, data, seed=3) == model.digest
    keys = {
        training_key(TINY, SMALL, data, seed=3),
        training_key(TINY, SMALL, data, seed=4),
        training_key(VGG(layers=(4, "M")), SMALL, data, seed=3),
        training_key(MLP(), SMALL, data, seed=3),
        training_key(TINY, Recipe(epochs=3), data, seed=3),
        training_key(TINY, SMALL, noise(seed=1), seed=3),
    }
    assert len(keys) == 6


def test_a_number_format_is_part_of_the_key_but_not_how_it_was_chosen():
    data = noise()
    both = [Recipe(precision=p) for p in ("float32", "bfloat16")]
    assert len({training_key(TINY, r, data, seed=0) for r in both}) == 2


def test_a_loss_of_ones_own_takes_the_place_of_the_recipes():
    recipe = Recipe(epochs=2, batch_size=8, label_smoothing=0.3)
    data, met = noise(), []

    def own(scores, labels):
        met.append((scores.shape, labels.dtype))
        return torch.nn.functional.cross_entropy(scores, labels, label_smoothing=0.3)

    assert bits(train(TINY, recipe, data, loss=own)) == bits(train(TINY, recipe, data))
    assert met == [((8, 3), torch.int64)] * 10
    turned = train(TINY, recipe, data, loss=lambda s, y: -own(s, y))
    assert bits(turned) != bits(train(TINY, recipe, data))
    assert turned.history[-1].loss < 0
