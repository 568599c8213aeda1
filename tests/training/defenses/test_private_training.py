from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from sanitizing import SETS, lab

from casemate.errors import UsageError
from casemate.models.resnet import ResNet
from casemate.random import stream
from casemate.training.augmentation import Augmentation
from casemate.training.defenses.private_training import PrivateTraining


def private(data, place=None, seed=1, **options):
    return PrivateTraining(**options).train(data, stream(seed, "test"), place or lab())


def test_without_opacus_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(UsageError, match=r"run pip install casemate\[dp\]"):
        private(SETS["gray bytes"])


@pytest.mark.parametrize(
    "bad", [{"noise_multiplier": 0}, {"max_grad_norm": 0}, {"delta": 0}, {"delta": 0.6}], ids=str
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must be"):
        PrivateTraining(**bad)


@pytest.mark.parametrize("data", ["gray bytes", "color bytes", "floats", "two classes", "features"])
def test_stream_and_seed_decide_and_global_states_stay(data):
    pytest.importorskip("opacus")
    data = SETS[data]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (private(data, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    first.model.check()
    for name, weight in first.model.weights.items():
        assert torch.equal(weight, again.model.weights[name])
    assert not torch.equal(first.model.weights["out.weight"], other.model.weights["out.weight"])
    assert first.model.digest == again.model.digest != other.model.digest
    assert first.notes["epsilon"] > 0


def test_epsilon_falls_with_noise_and_grows_with_epochs():
    pytest.importorskip("opacus")
    data = SETS["gray bytes"]

    def epsilon(epochs=2, **options):
        return private(data, lab(epochs=epochs), **options).notes["epsilon"]

    assert epsilon(noise_multiplier=4.0) < epsilon() < epsilon(epochs=4)
    # every sample in one step: the Gaussian mechanism of sensitivity 1, whose bound is known
    place = lab(epochs=1)
    place.recipe = replace(place.recipe, batch_size=60)
    found = private(data, place, noise_multiplier=5.0).notes["epsilon"]
    assert 0 < found < (2 * torch.tensor(1.25e5).log().item()) ** 0.5 / 5


def test_a_small_clip_with_little_noise_bounds_the_step():
    pytest.importorskip("opacus")
    data, place = SETS["features"], lab(epochs=1)
    place.recipe = replace(
        place.recipe, batch_size=60, momentum=0.0, weight_decay=0.0, schedule="constant"
    )
    one, far = (
        private(data, place, max_grad_norm=c, noise_multiplier=1e-3).model for c in (1e-3, 1e-5)
    )
    moved = sum(float((one.weights[k] - w).square().sum()) for k, w in far.weights.items()) ** 0.5
    # the mean of 60 gradients of norm 1e-3 at most, at a rate of 0.05
    assert 0 < moved < 1.1 * 0.05 * 1e-3


def ahead(data, place):
    """Asks before training, for which Opacus need not be there."""
    PrivateTraining().check(data, place)


@pytest.mark.parametrize("act", [private, ahead])
def test_what_does_not_fit_is_refused(act):
    if act is private:
        pytest.importorskip("opacus")
    place = lab()
    place.architecture = ResNet(width=2, blocks=1)
    with pytest.raises(UsageError, match="cannot be used with batch normalization"):
        act(SETS["gray bytes"], place)
    for name, value in (("label_smoothing", 0.1), ("augmentation", Augmentation(shift=1))):
        place = lab()
        place.recipe = replace(place.recipe, **{name: value})
        with pytest.raises(UsageError, match=rf"recipe\.{name}; remove it"):
            act(SETS["gray bytes"], place)


def test_what_fits_is_not_refused_ahead(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    ahead(SETS["gray bytes"], lab())
