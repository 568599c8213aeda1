from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from casemate.errors import ParameterError
from casemate.hardware import room
from casemate.hardware.cache import bytes_per_image
from casemate.hardware.cases import flips
from casemate.hardware.implementation import deploy
from casemate.hardware.injector import Injector
from casemate.hardware.upsets import Sites, Upsets

sys.path.insert(0, str(Path(__file__).parent))
from networks import network

IMAGES = 20


@pytest.fixture
def made():
    net, shape = network(5)
    x = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    return deploy(net, shape), x


def table(effects):
    """Return (cases, images) new labels, -1 where nothing changes."""
    out = np.full((effects.count, effects.images), -1)
    out[effects.case, effects.image] = effects.label
    return out


def broken(effects):
    return sorted(zip(effects.broken_case.tolist(), effects.broken_image.tolist(), strict=True))


def little(implementation, images):
    """Return the memory that holds that many images at once."""
    left = room._LEAST * room._EACH + images * bytes_per_image(implementation.graph)
    memory = (room._FIXED + left) * 8 // 7 + 8
    assert room.room(implementation.graph, memory).images == images
    return memory


@pytest.mark.parametrize("images", [1, 7, 20])
def test_parts_give_what_all_images_give_at_once(made, images):
    implementation, x = made
    cases = flips(implementation.memory, np.arange(80), np.arange(30, 80 * 32, 32), 80)
    whole = Injector(implementation, x)
    parts = Injector(implementation, x, memory=little(implementation, images))
    assert whole.effects(cases).changed.sum() > 0
    np.testing.assert_array_equal(table(whole.effects(cases)), table(parts.effects(cases)))
    assert broken(whole.effects(cases)) == broken(parts.effects(cases))
    np.testing.assert_array_equal(whole.labels, parts.labels)
    truth = whole.labels.copy()
    truth[::2] = (truth[::2] + 1) % 2
    one, other = (i.effects(cases).gained(i.labels, truth) for i in (whole, parts))
    np.testing.assert_array_equal(one, other)


def test_so_do_upsets_of_one_image_and_of_all(made):
    implementation, x = made
    sites = Sites(implementation.graph, ("sum", "activation"))
    numbers = np.arange(30, sites.bits, 32)[:100]
    image = np.where(np.arange(100) % 3 == 0, -1, np.arange(100) % IMAGES)
    upsets = Upsets.inverted(*sites.locate(numbers), image)
    whole = Injector(implementation, x).upset(upsets)
    parts = Injector(implementation, x, memory=little(implementation, 6)).upset(upsets)
    assert whole.changed.sum() > 0
    np.testing.assert_array_equal(table(whole), table(parts))


def test_gained_counts_both_ways(made):
    implementation, x = made
    injector = Injector(implementation, x)
    cases = flips(implementation.memory, np.arange(200), np.arange(30, 200 * 32, 32), 200)
    effects = injector.effects(cases)
    case = int(effects.changed.argmax())
    after = injector.labels.copy()
    mine = effects.case == case
    after[effects.image[mine]] = effects.label[mine]
    for truth in (injector.labels, after):
        expected = (after == truth).sum() - (injector.labels == truth).sum()
        assert effects.gained(injector.labels, truth)[case] == expected
        assert expected != 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process holds at most")
@pytest.mark.parametrize(
    ("network", "form", "limit"),
    [
        ("plain", "float32", 100),
        ("plain", "float32", 400),
        ("depthwise", "int8", 100),
        ("depthwise", "int8", 400),
        ("large", "float32", 150),
        ("large", "int8", 150),
        ("upsets", "float32", 150),
        ("upsets", "int8", 250),
    ],
)
def test_no_more_memory_is_taken_than_the_limit(network, form, limit):
    """A network that was not trained: hardly a fault is masked, and boxes grow to the whole."""
    script = Path(__file__).parent / "peak_of_faults.py"
    ran = subprocess.run(
        [sys.executable, str(script), network, form, str(limit)],
        capture_output=True,
        check=True,
        text=True,
    )
    given, taken = map(int, ran.stdout.split())
    assert given == limit << 20
    assert 0 < taken < given


def test_too_little_memory_and_no_images_are_one_sentence(made):
    implementation, x = made
    with pytest.raises(
        ParameterError, match=r"memory_limit is 1 MiB, but one image at a time takes 53"
    ):
        Injector(implementation, x, memory=1 << 20)
    with pytest.raises(ParameterError, match="samples is 0, but faults need at least one image"):
        Injector(implementation, x[:0])
