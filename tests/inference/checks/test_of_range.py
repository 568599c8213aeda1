"""The check of the input range, and that its remedy cures."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.inference.checks.of_range import input_range, usual_scalings
from casemate.inference.checks.probe import Probe
from casemate.models.load import target_from
from casemate.target import Preprocessing


class Behind(nn.Module):
    """The trained network behind a change of its input."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.net(self.change(x))


def probe_of(module, data, **more):
    target = target_from(module.eval(), domain=data.domain, classes=data.classes, **more)
    return Probe.take(target, data, torch.arange(200))


def cure(problem):
    """Return the preprocessing that the remedy prints."""
    found = re.search(r"\{mean: \[([^]]*)\], std: \[([^]]*)\]\}", problem.remedy)
    return Preprocessing(
        **{
            name: tuple(float(v) for v in values.split(","))
            for name, values in zip(("mean", "std"), found.groups(), strict=True)
        }
    )


# how a network comes back to [0, 1] from the range that it expects
EXPECTED = {
    "0 to 255": lambda x: x / 255,
    "-1 to 1": lambda x: (x + 1) / 2,
    "standardized": lambda x: x * 0.3748 + 0.3053,
}


def inked(x):
    """Which pixels are dark: unlike the network itself it does not forgive another range."""
    return (x > 0.3).float()


@pytest.mark.parametrize("change", EXPECTED.values(), ids=EXPECTED)
def test_a_network_for_another_range_fires_and_the_remedy_cures(trained, digits, change):
    module = Behind(trained, lambda x: inked(change(x)))
    bare = probe_of(module, digits)
    (problem,) = input_range(bare)
    assert (problem.id, problem.severity) == ("input-range", "error")
    cured = probe_of(module, digits, preprocessing=cure(problem))
    accuracy = float(cured.right.float().mean())
    assert accuracy > 0.8 > 2 * float(bare.right.float().mean())
    assert f"{100 * accuracy:.1f} % of 200 samples are right then" in problem.message
    assert input_range(cured) == []


def test_the_range_is_named(trained, digits):
    (problem,) = input_range(probe_of(Behind(trained, lambda x: inked(x / 255)), digits))
    assert "seems to expect inputs from 0 to 255" in problem.message
    assert problem.remedy == "set preprocessing: {mean: [0], std: [0.00392157]}"


def test_preprocessing_that_does_harm_fires_and_the_remedy_replaces_it(trained, digits):
    harm = Preprocessing(mean=(-2.0,), std=(0.5,))
    module = Behind(trained, inked)
    (problem,) = input_range(probe_of(module, digits, preprocessing=harm))
    cured = probe_of(module, digits, preprocessing=cure(problem))
    assert float(cured.right.float().mean()) > 0.8


def test_data_declared_in_0_to_255_fires_and_the_remedy_cures(trained, digits):
    wide = Dataset.from_arrays(
        name="wide",
        inputs=(digits.batch(slice(None)) * 255).numpy(),
        labels=digits.targets.numpy(),
        classes=digits.classes,
        domain=Domain(shape=(1, 8, 8), high=255.0),
    )
    module = Behind(trained, lambda x: x.clamp(0, 1))
    (problem,) = input_range(probe_of(module, wide))
    assert "expect inputs from 0 to 1" in problem.message
    assert float(probe_of(module, wide, preprocessing=cure(problem)).right.float().mean()) > 0.95


def test_inverted_images_are_named_without_a_preprocessing(trained, digits):
    (problem,) = input_range(probe_of(Behind(trained, lambda x: 1 - x), digits))
    assert "inverted" in problem.message
    assert "invert the data" in problem.remedy


def test_reversed_channels_are_found():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 3, 4, 4, generator=generator)
    y = x.mean((2, 3)).argmax(1)
    data = Dataset.from_arrays(
        name="colors",
        inputs=x.numpy(),
        labels=y.numpy(),
        classes=("red", "green", "blue"),
        domain=Domain(shape=(3, 4, 4)),
    )

    class Blue(nn.Module):
        """Reads channels as blue, green, red."""

        def forward(self, x):
            return x.mean((2, 3)).flip(1)

    (problem,) = input_range(probe_of(Blue(), data))
    assert "blue, green, red" in problem.message
    assert "reverse the channels" in problem.remedy


def test_a_healthy_model_and_an_untrained_one_pass(trained, digits):
    assert input_range(probe_of(trained, digits)) == []
    torch.manual_seed(0)
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert input_range(probe_of(untrained, digits)) == []


def test_the_usual_ranges_depend_on_the_channels():
    names = {c: [s.name for s in usual_scalings(c, torch.rand(5, c, 4, 4))] for c in (1, 2, 3)}
    assert any("MNIST" in n for n in names[1])
    assert any("ImageNet" in n for n in names[3])
    assert not any("MNIST" in n or "ImageNet" in n for n in names[2])
    features = usual_scalings(3, torch.ones(5, 3))
    assert not any(s.flip for s in features)
    assert all(v > 0 for s in features if "standardized" in s.name for v in s.std)
