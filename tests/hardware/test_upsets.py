"""Predictions under upsets of activations are those of a full pass with the same words changed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from casemate.errors import UsageError
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import deploy
from casemate.hardware.propagate import Propagator
from casemate.hardware.upsets import Sites, Upsets
from casemate.hardware.words import WORDS

sys.path.insert(0, str(Path(__file__).parent))
from networks import network

FORMATS = (NumberFormat(name="float32"), NumberFormat(name="int8"))
IMAGES = 8
FAULTS = 40


def dense(propagator, upsets, case):
    """Return the predictions of a full pass, its words changed one by one."""
    graph = propagator.graph
    entries = np.flatnonzero(upsets.case == case)
    only = upsets.image[case]

    def edited(node, out):
        out = out.clone()
        word = WORDS[graph.holds if node < 0 else graph.nodes[node].holds]
        for e in entries[upsets.node[entries] == node]:
            flat = out.view(len(out), -1)
            for image in range(len(out)):
                if only in (-1, image):
                    raw = int(word.raw(word.encode(flat[image, upsets.element[e]])))
                    raw = (raw & int(upsets.keep[e])) ^ int(upsets.flip[e])
                    flat = flat.to(torch.promote_types(flat.dtype, word.value_type))
                    flat[image, upsets.element[e]] = word.of_raw(torch.tensor([raw]))[0]
            out = flat.view(out.shape)
        return out

    with torch.no_grad():
        x = edited(-1, propagator.cache.x)
        return graph.resume(propagator.values, x, 0, {}, lambda i, out: safe(graph, i, out, edited))


def safe(graph, node, out, edited):
    return edited(node, out) if graph.nodes[node].holds in WORDS else out


def check(propagator, upsets):
    effects = propagator.upset(upsets)
    for c in range(upsets.count):
        scores = dense(propagator, upsets, c)
        labels = propagator.labels.copy()
        mine = effects.case == c
        labels[effects.image[mine]] = effects.label[mine]
        where = [
            (int(n), int(e), hex(int(f)))
            for n, e, f in zip(
                upsets.node[upsets.case == c],
                upsets.element[upsets.case == c],
                upsets.flip[upsets.case == c],
                strict=True,
            )
        ]
        np.testing.assert_array_equal(labels, scores.argmax(1).numpy(), err_msg=str(where))
    return effects


def deployed(seed, form):
    module, shape = network(seed)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(IMAGES, *shape)).astype(np.float32))
    made = deploy(module, shape, form, calibration=x)
    return Propagator(made.graph, made.memory, x), rng


def spread(sites, rng, n):
    """Return bits by number, every node having its share."""
    picked = rng.integers(0, len(sites.outputs), n)
    ends = sites.starts + [o.count * o.bits for o in sites.outputs]
    return np.array([rng.integers(sites.starts[i], ends[i]) for i in picked])


@pytest.mark.parametrize("form", FORMATS, ids=str)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_single_inverted_bits(form, seed):
    propagator, rng = deployed(seed, form)
    sites = Sites(propagator.graph, ("input", "sum", "activation"))
    image = rng.integers(-1, IMAGES, FAULTS)
    check(propagator, Upsets.inverted(*sites.locate(spread(sites, rng, FAULTS)), image))


@pytest.mark.parametrize("form", FORMATS, ids=str)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_several_words_that_stick_or_take_any_value(form, seed):
    propagator, rng = deployed(seed, form)
    sites = Sites(propagator.graph, ("sum", "activation"))
    node, element, bit = sites.locate(spread(sites, rng, 24))
    case = np.repeat(np.arange(8), 3)
    _, first = np.unique(np.stack([case, node, element]), axis=1, return_index=True)
    first = np.sort(first)
    case, node, element, bit = (a[first] for a in (case, node, element, bit))
    one = np.int64(1) << bit
    keep = np.where(case % 2 == 0, ~one, 0)
    flip = np.where(case % 4 == 0, one, 0)
    check(propagator, Upsets(8, case, node, element, keep, flip, rng.integers(-1, IMAGES, 8)))


def test_a_transient_upset_strikes_one_image():
    propagator, _ = deployed(5, NumberFormat())
    sites = Sites(propagator.graph, ("sum",))
    numbers = np.arange(30, sites.bits, 32)[:60]
    one = check(propagator, Upsets.inverted(*sites.locate(numbers), np.full(60, 3)))
    every = check(propagator, Upsets.inverted(*sites.locate(numbers)))
    assert set(one.image.tolist()) == {3}
    assert one.changed.sum() == (every.image == 3).sum()
    assert len(set(every.image.tolist())) > 1


def test_sites_are_counted_over_bits():
    propagator, _ = deployed(5, NumberFormat(name="int8"))
    graph = propagator.graph
    sums = Sites(graph, ("sum",))
    named = [n for n in graph.nodes if n.holds == "int32"]
    assert sums.bits == sum(32 * int(np.prod(n.shape)) for n in named)
    node, element, bit = sums.locate(np.array([0, sums.bits - 1]))
    assert [graph.nodes[i].name for i in node] == [named[0].name, named[-1].name]
    assert element[1] == np.prod(named[-1].shape) - 1
    assert bit.tolist() == [0, 31]
    assert [o.node for o in Sites(graph, ("input",)).outputs] == [-1]


def test_a_layer_that_does_not_exist_is_one_sentence():
    propagator, _ = deployed(5, NumberFormat())
    with pytest.raises(UsageError, match='has no layer "conv9"'):
        Sites(propagator.graph, ("sum",), ["conv9"])
    with pytest.raises(UsageError, match="no output of the deployed model is one of input in"):
        Sites(propagator.graph, ("input",), [propagator.graph.nodes[0].name])


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("node", {"node": [99]}),
        ("element", {"element": [10**6]}),
        ("flip", {"bit": [40]}),
        ("image", {"image": [12]}),
    ],
)
def test_an_upset_outside_the_network_is_one_sentence(key, change):
    made = deploy(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    propagator = Propagator(made.graph, made.memory, torch.zeros(12, 1, 2, 2))
    where = {"node": [1], "element": [0], "bit": [0], "image": [0]} | change
    with pytest.raises(UsageError, match=f"^{key} is "):
        propagator.upset(Upsets.inverted(**{k: np.array(v) for k, v in where.items()}))
