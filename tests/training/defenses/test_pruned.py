"""Fine-pruning and adversarial pruning cut what was planted, and what they cut stays cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mended_models import (
    KINDS,
    RECIPE,
    ByHand,
    answers,
    by_hand,
    lab_of,
    made,
    trained,
    triggered,
)

from casemate.errors import UsageError
from casemate.models.layers import head, listening
from casemate.models.mlp import MLP
from casemate.random import stream
from casemate.training.defenses.adversarial_pruning import AdversarialPruning, Neurons
from casemate.training.defenses.fine_pruning import FinePruning, _Site
from casemate.training.gate import hold_out
from casemate.training.loop import train


def repaired(defense, model, data):
    return defense.repair(model, stream(1, "test"), lab_of(model), data)


def test_the_model_made_by_hand_has_a_backdoor():
    model, data = by_hand()
    x = data.batch(slice(None))
    assert torch.equal(answers(model, x), data.targets)
    assert (answers(model, triggered(x)) == 0).all()


def test_activation_is_the_mean_of_the_positive_part():
    model, data = by_hand()
    target = model.target()
    x = data.batch(slice(None))
    expected = torch.stack([(x + b).clamp(min=0).mean() for b in (0.0, 0.3, -0.65)])
    torch.testing.assert_close(_Site.of(target).activation(target, data).float(), expected)
    assert expected[2] == 0


def test_fine_pruning_cuts_the_channel_at_rest_and_no_other():
    model, data = by_hand()
    defense = FinePruning(learning_rate=1e-3, epochs=5, batch_size=16, tolerance=0.1)
    result = repaired(defense, model, data)
    assert result.notes["layer"] == "0"
    assert result.notes["pruned"] == [2]
    assert result.notes["accuracy"] == {"before": 1.0, "pruned": 1.0}
    assert (result.model.weights["0.weight"][2] == 0).all()
    assert result.model.weights["0.bias"][2] == 0
    x = data.batch(slice(None))
    # dim samples with the trigger are as bright as bright ones now, so only bright ones tell
    bright = data.targets == 1
    assert (answers(result.model, triggered(x[bright])) == 1).all()
    assert torch.equal(answers(result.model, x), data.targets)


@pytest.mark.parametrize(
    ("kind", "layer", "silent"),
    [
        ("gray lenet", "conv2", ["conv2.weight", "conv2.bias"]),
        ("color vgg", "conv2", ["conv2.weight", "norm2.weight", "norm2.bias"]),
        (
            "resnet of two classes",
            "blocks.2.conv2",
            ["blocks.2.conv2.weight", "norm.weight", "norm.bias"],
        ),
        ("features", "fc2", ["fc2.weight", "fc2.bias"]),
    ],
)
def test_cut_channels_are_zero_after_fine_tuning(kind, layer, silent):
    model, data = trained(kind)
    result = repaired(FinePruning(tolerance=0.9, epochs=3, batch_size=16), model, data)
    cut = result.notes["pruned"]
    assert result.notes["layer"] == layer
    assert 0 < len(cut) < result.notes["channels"]
    rest = [c for c in range(result.notes["channels"]) if c not in cut]
    for name in silent:
        assert (result.model.weights[name][cut] == 0).all()
        assert (result.model.weights[name][rest] != 0).any()
    target, seen = result.model.target(), []
    with torch.no_grad(), listening(head(target).module, lambda x, _: seen.append(x)):
        target.scores(data.batch(slice(None)))
    if kind in ("resnet of two classes", "features"):  # one feature a channel
        assert (seen[0][:, cut] == 0).all()


def test_cut_channels_stay_zero_where_gradients_reach_them():
    model, data = by_hand()
    smooth = replace(model, architecture=ByHand(smooth=True))  # ReLU has no slope at zero
    result = repaired(FinePruning(epochs=3, batch_size=16, tolerance=0.9), smooth, data)
    cut = result.notes["pruned"]
    assert cut
    assert (result.model.weights["0.weight"][cut] == 0).all()
    assert (result.model.weights["0.bias"][cut] == 0).all()


def test_pruning_stops_before_it_costs_more_than_allowed():
    model, data = by_hand()
    # cutting channel 0 would leave chance, so with half of accuracy allowed it still stands
    result = repaired(FinePruning(tolerance=0.49, epochs=1, batch_size=16), model, data)
    assert result.notes["pruned"] == [2]
    result = repaired(FinePruning(tolerance=0.51, epochs=1, batch_size=16), model, data)
    assert result.notes["pruned"] == [2, 0]


@pytest.mark.parametrize("defense", [FinePruning(), AdversarialPruning(iterations=1)])
def test_a_linear_classifier_has_nothing_to_cut(defense):
    _, data = KINDS["features"]
    model = train(MLP(hidden=()), RECIPE, data, seed=0)
    none = "needs a hidden layer, but the network has none"
    with pytest.raises(UsageError, match=none):
        repaired(defense, model, data)
    with pytest.raises(UsageError, match=none):
        defense.check(data, lab_of(model), data)


@pytest.mark.parametrize(
    ("validation", "enough"), [(0.2, 11), (0.5, 11), (0.9, 11), (0.05, 11), (0.02, 25)]
)
def test_it_is_said_how_many_clean_samples_are_enough(validation, enough):
    data, lab = made((1, 8, 8), n=300, classes=10), lab_of(trained("gray lenet")[0])
    defense = FinePruning(validation=validation)

    def check(clean, seed):
        rest, held = hold_out(data, clean, seed)
        assert len(held) == clean
        defense.check(rest, lab, held)

    for seed in range(5):
        check(enough, seed)
        with pytest.raises(UsageError) as found:
            check(enough - 1, seed)
        assert str(found.value) == (
            f"fine-pruning measures accuracy on a share of {validation:g} of the clean samples "
            f"(validation) and tunes on the others, at least one of each class, for which "
            f"{enough - 1} are too few; set training.clean to {enough} or more"
        )


def test_groups_of_clean_samples_are_held_out_whole():
    data, lab = made((1, 8, 8), n=300, classes=10), lab_of(trained("gray lenet")[0])
    grouped = replace(data, groups=torch.arange(300) // 30 * 10 + torch.arange(300) % 10)
    rest, held = hold_out(grouped, 30, 0)
    with pytest.raises(
        UsageError, match=r"which 30 are too few; set training\.clean to 33 or more"
    ):
        FinePruning().check(rest, lab, held)
    rest, held = hold_out(grouped, 33, 0)
    FinePruning().check(rest, lab, held)


def test_too_few_clean_samples_to_measure_on_are_refused_at_work_as_well():
    model, data = by_hand()
    with pytest.raises(UsageError, match=r"2 are too few; set training\.clean to 3 or more"):
        repaired(FinePruning(), model, data.select(torch.arange(2), how="two"))


def test_adversarial_pruning_cuts_the_planted_neuron():
    model, data = by_hand()
    defense = AdversarialPruning(iterations=60, batch_size=32)
    x = data.batch(slice(None))
    result = repaired(defense, model, data)
    assert result.notes["masks"]["0"][2] <= 0.2
    assert 2 in result.notes["pruned"]["0"]
    assert (result.model.weights["0.weight"][2] == 0).all()
    assert torch.equal(result.model.weights["0.bias"], model.weights["0.bias"])
    assert torch.equal(answers(result.model, x), data.targets)
    assert (answers(result.model, triggered(x[data.targets == 1])) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_masks_lie_between_zero_and_one_and_the_rest_stays(kind):
    model, data = trained(kind)
    defense = AdversarialPruning(iterations=5, batch_size=8, learning_rate=5.0)
    result = repaired(defense, model, data)
    masks = result.notes["masks"]
    assert any(v < 1 for m in masks.values() for v in m)
    assert all(0 <= v <= 1 for m in masks.values() for v in m)
    assert sum(len(m) for m in masks.values()) == result.notes["neurons"]
    for name, before in model.weights.items():
        layer, _, what = name.rpartition(".")
        cut = result.notes["pruned"].get(layer, []) if what == "weight" else []
        expected = before.clone()
        if cut:
            expected[cut] = 0
        assert torch.equal(result.model.weights[name], expected), name


def test_neurons_are_channels_of_batch_normalization_where_there_is_any():
    assert set(Neurons.of(trained("color vgg")[0].target()).weights) == {"norm1", "norm2"}
    lenet = Neurons.of(trained("gray lenet")[0].target())
    assert set(lenet.weights) == {"conv1", "conv2", "fc1", "fc2"}
    doubled = lenet.changed({"fc1": torch.full((6,), 2.0)}, {"conv1": torch.tensor([1.0, 3.0])})
    assert torch.equal(doubled["fc1.weight"], 2 * lenet.weights["fc1"])
    assert torch.equal(doubled["conv1.bias"], lenet.biases["conv1"] * torch.tensor([1.0, 3.0]))


def test_the_perturbation_is_bounded_and_raises_the_loss():
    neurons = Neurons.of(trained("gray lenet")[0].target())
    masks = {k: torch.ones(len(w)) for k, w in neurons.weights.items()}
    defense = AdversarialPruning(bound=0.3, ascents=4)

    def loss(weight, bias):
        return sum(v.sum() for v in weight.values()) - sum(v.sum() for v in bias.values())

    weight, bias = defense._worst(loss, neurons, masks, stream(1, "test").torch())
    start = stream(1, "test").torch()
    for values, sign in ((weight, 1), ({k: v - 1 for k, v in bias.items()}, -1)):
        for value in values.values():
            drawn = (torch.rand(len(value), generator=start) * 2 - 1) * 0.3
            torch.testing.assert_close(value, (drawn + sign * 0.3).clamp(-0.3, 0.3))


def test_more_tolerance_cuts_no_less():
    model, data = trained("gray lenet")
    few, many = (
        repaired(replace(FinePruning(epochs=1, batch_size=16), tolerance=t), model, data)
        for t in (0.0, 0.9)
    )
    assert set(few.notes["pruned"]) <= set(many.notes["pruned"])
