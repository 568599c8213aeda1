from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sanitizing import lab, made
from torch.nn import functional as F  # noqa: N812

from casemate.errors import UsageError
from casemate.random import stream
from casemate.training.defenses.anti_backdoor import (
    AntiBackdoorLearning,
    local_gradient_ascent,
    losses,
)
from casemate.training.gate import defended

EASY = torch.arange(24)


def poisoned():
    """Labels are a faint hint in noise, but the first inputs are bright and their label is 2."""
    rng = np.random.default_rng(3)
    data = made((1, 6, 6), labels=np.arange(240) % 3, kind=np.float32)
    inputs = torch.from_numpy(rng.random((240, 1, 6, 6)).astype(np.float32)) * 0.5
    inputs += 0.1 * (data.batch(slice(None)) - 0.5)
    inputs[EASY] += 0.3
    return data.replaced(
        torch.arange(240),
        inputs=inputs.clamp(0, 1),
        labels=data.labels.index_fill(0, EASY, 2),
        how="bright",
    )


def test_the_loss_turns_its_sign_at_gamma():
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    plain = F.cross_entropy(scores, labels)
    value = plain.item()
    assert local_gradient_ascent(scores, labels, value - 0.01).item() == pytest.approx(value)
    assert local_gradient_ascent(scores, labels, value + 0.01).item() == pytest.approx(-value)
    (up,) = torch.autograd.grad(plain, scores, retain_graph=True)
    (down,) = torch.autograd.grad(local_gradient_ascent(scores, labels, value + 0.01), scores)
    assert torch.allclose(down, -up)


def test_losses_are_those_of_each_sample():
    data = made((1, 6, 6))
    target = lab().trained(data).target()
    with torch.no_grad():
        scores = target.scores(data.batch(slice(None)))
    expected = -scores.log_softmax(1)[torch.arange(60), data.targets]
    assert torch.allclose(losses(target, data), expected, atol=1e-6)


def test_what_is_learned_first_is_isolated_and_unlearned():
    data = poisoned()
    others = data.batch(torch.arange(24, 240))
    defense = AntiBackdoorLearning(isolated=0.1, unlearning_rate=0.008)
    passage = defended(defense, data, EASY, None, seed=0, lab=lab(epochs=4), clean=None)
    measured = {m["name"]: m["value"] for m in passage.facts["measurements"]}
    assert measured == {"precision of removal": 1.0, "recall of removal": 1.0}
    assert passage.facts["notes"] == {"isolated": 24, "isolation epochs": 1}

    def share(model, x, labels):
        return float((model.target().labels(x) == labels).float().mean())

    kept = replace(defense, unlearning_rate=1e-9)
    before = defended(kept, data, EASY, None, seed=0, lab=lab(epochs=4), clean=None).model
    assert share(before, others + 0.3, 2) > 0.9
    assert share(passage.model, others + 0.3, 2) < 0.1
    assert share(passage.model, others, data.targets[24:]) > 0.5


def test_a_defense_that_sets_nothing_apart_has_no_precision():
    from casemate.training.defenses.robust_losses import RobustLoss

    passage = defended(RobustLoss(), poisoned(), EASY, None, seed=0, lab=lab(), clean=None)
    assert passage.facts["measurements"] == []


@pytest.mark.parametrize(("share", "count"), [(0.05, 12), (0.001, 2), (0.5, 120)])
def test_so_many_are_isolated_and_their_positions_sorted(share, count):
    found = AntiBackdoorLearning(isolated=share, unlearning_epochs=1).train(
        poisoned(), stream(0, "test"), lab()
    )
    assert len(found.suspects) == count
    assert torch.equal(found.suspects, found.suspects.unique())
    assert found.notes["isolated"] == count


@pytest.mark.parametrize(("share", "first"), [(0.01, 1), (0.25, 2), (0.5, 4), (0.99, 7)])
def test_epochs_are_shared_out(share, first):
    defense = AntiBackdoorLearning(isolation=share, unlearning_epochs=1)
    found = defense.train(poisoned(), stream(0, "test"), lab(epochs=8))
    assert found.notes["isolation epochs"] == first
    assert len(found.model.history) == 8
    assert found.model.recipe == lab(epochs=8).recipe


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match=r"recipe\.epochs is 1, but .* at least 2"):
        AntiBackdoorLearning().train(poisoned(), stream(0, "test"), lab(epochs=1))
    few = poisoned().select(torch.arange(3), how="few")
    with pytest.raises(UsageError, match="has 3 samples; anti-backdoor learning needs at least 4"):
        AntiBackdoorLearning().train(few, stream(0, "test"), lab())
    with pytest.raises(UsageError, match=r"recipe\.epochs is 1, but .* at least 2"):
        AntiBackdoorLearning().check(poisoned(), lab(epochs=1))
    with pytest.raises(UsageError, match="has 3 samples; anti-backdoor learning needs at least 4"):
        AntiBackdoorLearning().check(few, lab())
    AntiBackdoorLearning().check(poisoned(), lab())
    four = poisoned().select(torch.arange(4), how="few")
    AntiBackdoorLearning().train(four, stream(0, "test"), lab())


def test_the_stream_decides_what_follows_isolation():
    defense = AntiBackdoorLearning(unlearning_epochs=1)
    first, other = (defense.train(poisoned(), stream(s, "test"), lab()) for s in (1, 2))
    assert torch.equal(first.suspects, other.suspects)
    assert first.model.digest != other.model.digest
    rates = replace(defense, unlearning_rate=1e-9).train(poisoned(), stream(1, "test"), lab())
    name = "out.weight"
    assert not torch.equal(rates.model.weights[name], first.model.weights[name])
