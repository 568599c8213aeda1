"""Upsets of what is computed, each held against a full pass in which one word is rewritten."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.random_upsets import RandomUpsets
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.bench import Bench
from casemate.hardware.defenses.ecc import SECDED
from casemate.hardware.defenses.product_checksums import ProductChecksums
from casemate.hardware.formats import NumberFormat
from casemate.hardware.gate import check, strike
from casemate.hardware.implementation import deploy
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.ops.linear import Linear
from casemate.hardware.ops.shaping import Reshape
from casemate.hardware.words import WORDS
from casemate.random import stream

IMAGES = 5
ALL = 10**6  # a budget above every population here: each upset is tried, and means are exact


@pytest.fixture(scope="module")
def small():
    """A network whose upsets can all be tried by hand."""
    torch.manual_seed(4)
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    x = torch.randn(40, 1, 3, 3)
    truth = module(x).argmax(1)
    truth[:2] = (truth[:2] + 1) % 3

    def made(form="int8", **more):
        bare = deploy(module, (1, 3, 3), NumberFormat(name=form), calibration=x)
        samples = Samples(x=x[:IMAGES], labels=truth[:IMAGES])
        pool = Samples(x=x[10:], labels=truth[10:])
        return Bench(
            bare=bare,
            pool=pool,
            evaluation=samples,
            clean=pool.x,
            rng=stream(0, "small"),
            **more,
        )

    return made


def rewritten(word, value, bit, kind):
    """Return the number whose word has one bit changed, by arithmetic on Python's integers."""
    raw = int(word.raw(word.encode(value[None]))[0])
    raw = {
        "flip": raw ^ (1 << bit),
        "stuck at 0": raw & ~(1 << bit),
        "stuck at 1": raw | (1 << bit),
    }[kind]
    return word.of_raw(torch.tensor([raw]))[0]


def outputs_of(graph, where):
    """Return kind, node, name, elements and word of the outputs that are struck."""
    found = [("input", -1, "input", graph.shape, graph.holds)]
    for i, node in enumerate(graph.nodes):
        kind = "sum" if isinstance(node.op, (Conv2d, Linear)) else "activation"
        if node.holds in WORDS and not isinstance(node.op, Reshape):
            found.append((kind, i, node.name, node.shape, node.holds))
    return [
        (kind, i, name, int(np.prod(shape)), WORDS[holds])
        for kind, i, name, shape, holds in found
        if kind in where
    ]


def by_hand(bench, kind, where=("input", "sum", "activation")):
    """Return of each upset, by output and bit, (elements, images) predictions of full passes."""
    model, x = bench.bare, bench.evaluation.x
    graph, values = model.graph, model.memory.values
    found = {}
    for _, node, name, elements, word in outputs_of(graph, where):
        for bit in range(word.bits):
            now = torch.empty(elements, len(x), dtype=torch.int64)
            for element in range(elements):

                def edited(i, out, node=node, element=element, word=word, bit=bit):
                    if i != node:
                        return out
                    flat = out.reshape(len(out), -1).clone()
                    new = [rewritten(word, v, bit, kind) for v in flat[:, element]]
                    flat[:, element] = torch.stack(new).to(flat.dtype)
                    return flat.view(out.shape)

                scores = graph.resume(values, edited(-1, x), 0, {}, edited)
                serve = scores.isfinite().all(1)
                now[element] = scores.argmax(1).masked_fill(~serve, -1)
            found[name, bit] = now
    return found


def struck(attack, bench):
    return strike(attack, bench, bench.bare.scores(bench.evaluation.x).argmax(1))


def figures(evidence):
    return {m.name: m for m in evidence.measurements}


@pytest.mark.parametrize("form", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["flip", "stuck at 0", "stuck at 1"])
def test_means_over_all_upsets_of_one_inference_are_those_by_hand(small, form, kind):
    made = small(form)
    evidence = struck(RandomUpsets(kind=kind, budget=ALL, tolerance=1e-6), made)
    before = made.bare.scores(made.evaluation.x).argmax(1)
    truth = made.evaluation.labels
    found = by_hand(made, kind)
    every = torch.cat(list(found.values()))
    lost = (before == truth).double() - (every == truth).double()
    wanted = {
        "mean corruption": float((every != before).double().mean()),
        "mean accuracy drop": float(lost.mean()),
        "critical faults": float((lost > 0).double().mean()),
    }
    for name, value in wanted.items():
        measured = figures(evidence)[name]
        assert measured.value == pytest.approx(value), name
        assert measured.low == pytest.approx(measured.high)
        assert measured.n == every.numel()
    table = evidence.tables["vulnerability"]
    keys = list(zip(table["tensor"], table["bit"], strict=True))
    assert keys == list(found)
    for i, key in enumerate(keys):
        assert table["corruption"][i] == pytest.approx(
            float((found[key] != before).double().mean())
        )
        assert table["population"][i] == table["tried"][i] == found[key].numel()
    assert set(table["role"]) == {"input", "sum", "activation"}
    assert wanted["mean corruption"] > 0


def test_an_upset_that_stays_strikes_all_inferences(small):
    made = small()
    attack = RandomUpsets(permanent=True, budget=ALL, tolerance=1e-6, critical=0.3)
    before = made.bare.scores(made.evaluation.x).argmax(1)
    every = torch.cat(list(by_hand(made, "flip").values()))  # (upsets, images)
    right = (before == made.evaluation.labels).double().mean()
    drop = right - (every == made.evaluation.labels).double().mean(1)
    found = figures(struck(attack, made))
    assert found["mean corruption"].value == pytest.approx(float((every != before).double().mean()))
    assert found["mean accuracy drop"].value == pytest.approx(float(drop.mean()))
    assert found["critical faults"].value == pytest.approx(float((drop > 0.3).double().mean()))
    assert found["critical faults"].n == len(every)
    assert 0 < found["critical faults"].value < 1


@pytest.mark.parametrize("where", [("input",), ("sum",), ("activation",)])
def test_only_the_outputs_that_are_named_are_struck(small, where):
    made = small()
    evidence = struck(RandomUpsets(where=where, budget=ALL, tolerance=1e-6), made)
    every = torch.cat(list(by_hand(made, "flip", where).values()))
    before = made.bare.scores(made.evaluation.x).argmax(1)
    assert figures(evidence)["mean corruption"].value == pytest.approx(
        float((every != before).double().mean())
    )
    assert evidence.spent["bits that can be struck"] * IMAGES == every.numel()


def test_layers_are_chosen_by_name(small):
    made = small()
    named = made.bare.graph.nodes[0].name
    table = struck(RandomUpsets(layers=(named,)), made).tables["vulnerability"]
    assert set(table["tensor"]) == {named}


def test_random_words_of_eight_bits_are_as_bad_as_the_mean_over_all_of_them(small):
    made = small()
    graph, values, x = made.bare.graph, made.bare.memory.values, made.evaluation.x
    before = made.bare.scores(x).argmax(1)
    at = next(i for i, n in enumerate(graph.nodes) if n.holds == "int8" and len(n.shape) == 3)
    word, changed = WORDS["int8"], []
    for element in range(int(np.prod(graph.nodes[at].shape))):
        for raw in range(256):

            def edited(i, out, element=element, raw=raw):
                if i != at:
                    return out
                flat = out.flatten(1).clone()
                flat[:, element] = word.of_raw(torch.tensor([raw])).to(flat.dtype)
                return flat.view(out.shape)

            scores = graph.resume(values, x, 0, {}, edited)
            changed.append((scores.argmax(1) != before).double())
    attack = RandomUpsets(
        layers=(graph.nodes[at].name,), kind="random value", budget=ALL, tolerance=1e-6
    )
    found = figures(struck(attack, made))["mean corruption"]
    truth = float(torch.stack(changed).mean())
    # each of the words is drawn anew for each of its bits and each image
    assert found.n == 8 * IMAGES * len(changed) // 256
    assert abs(found.value - truth) < 4 * (truth * (1 - truth) / found.n) ** 0.5
    assert truth > 0.02


@pytest.mark.parametrize("estimator", ["stratified", "simple"])
def test_samples_hold_the_mean_over_all(small, estimator):
    made = small("float32")
    before = made.bare.scores(made.evaluation.x).argmax(1)
    every = torch.cat(list(by_hand(made, "flip").values()))
    found = figures(struck(RandomUpsets(estimator=estimator, budget=900), made))
    measured = found["mean corruption"]
    assert measured.method == estimator
    assert measured.n <= 900 < every.numel()
    assert measured.low <= float((every != before).double().mean()) <= measured.high


def test_a_check_of_products_notices_sums_and_a_guard_of_memory_nothing(small):
    products = small(defense=ProductChecksums())
    sums = RandomUpsets(where=("sum",), budget=200)
    assert figures(struck(sums, products))["faults detected"].value == 1  # integers must agree
    stays = RandomUpsets(where=("sum",), permanent=True, budget=200)
    assert figures(struck(stays, products))["faults detected"].value == 1
    # what is wrong before the product is no wrong product
    before = RandomUpsets(where=("input", "activation"), budget=200)
    assert figures(struck(before, products))["faults detected"].value == 0
    guarded = small(defense=SECDED())
    assert figures(struck(sums, guarded))["faults detected"].value == 0
    alike = [figures(struck(sums, b))["mean corruption"].value for b in (small(), guarded)]
    assert alike[0] == alike[1] > 0


def test_upsets_of_floating_point_sums_are_noticed_from_the_slack_on(small):
    made = small("float32", defense=ProductChecksums())
    found = figures(struck(RandomUpsets(where=("sum",), budget=400), made))
    # low bits of a mantissa are rounding, high ones and exponents are not
    assert 0.4 < found["faults detected"].value < 1


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"where": ("sums",)}, r'where has no "sums"\. Did you mean "sum"'),
        ({"where": ()}, "where is empty"),
        ({"where": "sum"}, "where must be a list of names"),
        ({"layers": "fc1"}, "layers must be a list of names"),
        ({"kind": "stuck"}, 'kind is "stuck", but must be one of flip, stuck at 0'),
        ({"estimator": "exhaustive"}, 'estimator is "exhaustive", but must be one of'),
        ({"permanent": 1}, "permanent must be true or false, got 1"),
        ({"budget": 0}, "budget must be a whole number from 1"),
        ({"critical": 1.0}, "critical is 1, which nothing exceeds"),
        ({"tolerance": 0}, "tolerance must be a number of at least"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence(made, words):
    with pytest.raises(ParameterError, match=words):
        RandomUpsets(**made)


def test_a_layer_that_does_not_exist_is_refused_before_anything_runs(small):
    with pytest.raises(UsageError, match='has no layer "fc9"'):
        check(RandomUpsets(layers=("fc9",)), small())
