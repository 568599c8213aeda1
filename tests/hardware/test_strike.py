"""The hardware gate: evidence of attacks on a deployed model, held against plain computations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from casemate.errors import ParameterError, UsageError
from casemate.hardware import room
from casemate.hardware.attacks import bit_errors
from casemate.hardware.attacks.bfa import BFA
from casemate.hardware.attacks.bit_errors import BitErrors
from casemate.hardware.attacks.outcome import flipped
from casemate.hardware.attacks.random_faults import RandomFaults
from casemate.hardware.attacks.random_flips import RandomFlips
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.attacks.tbfa import TBFA
from casemate.hardware.attacks.tbt import TBT
from casemate.hardware.bench import Bench
from casemate.hardware.cache import bytes_per_image
from casemate.hardware.defenses.checksums import RADAR
from casemate.hardware.defenses.ecc import SECDED
from casemate.hardware.defenses.product_checksums import ProductChecksums
from casemate.hardware.defenses.range_restriction import Ranger
from casemate.hardware.defenses.triplication import Triplication
from casemate.hardware.defenses.weight_reconstruction import WeightReconstruction
from casemate.hardware.deployment import Deployment
from casemate.hardware.formats import NumberFormat
from casemate.hardware.gate import bench_of, check, strike
from casemate.hardware.implementation import deploy
from casemate.hardware.memory import Fault
from casemate.hardware.rowhammer.module import MemoryModule
from casemate.random import stream
from casemate.stats import wilson

SEARCH = BFA(objective="sigmoid margin", budget=30, level=0.3, batch=64)


@pytest.fixture(scope="module")
def bench(deployed, digits):
    """A bench of the network that reads digits."""
    pool, evaluation = digits

    def made(form="int8", *, seed=0, **more):
        bare = deployed(name=form)
        return Bench(
            bare=bare,
            pool=pool,
            evaluation=evaluation,
            clean=pool.x[:200],
            rng=stream(seed, "bench"),
            **more,
        )

    return made


def labels(bench):
    return bench.bare.scores(bench.evaluation.x).argmax(1)


def struck(attack, bench):
    return strike(attack, bench, labels(bench))


def figures(evidence):
    return {m.name: m.value for m in evidence.measurements}


def accuracy(deployed, samples):
    return float((deployed.scores(samples.x).argmax(1) == samples.labels).double().mean())


def test_the_layers_that_triplication_chose_are_among_the_notes(bench):
    made = bench(defense=Triplication(most=1))
    evidence = struck(RandomFlips(budget=60), made)
    (layer,) = evidence.notes["layers kept three times"]
    of_layer = sum(r.bits for r in made.bare.memory.where(layers=(layer,)))
    storage = figures(evidence)["storage of the defense"]
    assert storage == pytest.approx(2 * of_layer / made.bare.memory.bits)
    named = struck(RandomFlips(budget=60), bench(defense=Triplication(layers=(layer,))))
    assert figures(named) == figures(evidence)
    assert "layers kept three times" not in struck(None, bench(defense=Triplication())).notes


def test_a_goal_that_the_defense_alone_reaches_is_no_success(bench):
    made = bench("int4", defense=WeightReconstruction(reach=0.2), aware=False)
    behind = accuracy(made.defended, made.evaluation)
    assert behind < accuracy(made.bare, made.evaluation) - 0.05  # the attacker does not know
    attack = BFA(objective="sigmoid margin", budget=3, level=behind, batch=64)
    evidence = struck(attack, made)
    assert [f.id for f in evidence.failed] == ["goal-before-attack"]
    assert figures(evidence)["bits flipped until the goal"] == 0


def test_without_an_attack_deployment_itself_is_measured(bench):
    made = bench("int4")
    before = made.evaluation.labels.clone()
    before[:40] = (before[:40] + 1) % 10  # the model before deployment is wrong on 40
    found = figures(strike(None, made, before))
    n, right = len(before), accuracy(made.bare, made.evaluation)
    assert found["clean accuracy"] == pytest.approx(right)
    assert found["accuracy before deployment"] == pytest.approx(1 - 40 / n)
    assert found["clean accuracy drop"] == pytest.approx(1 - 40 / n - right)
    assert len(found) == 3


def test_searched_flips_are_those_of_the_search(bench):
    made = bench()
    evidence = struck(SEARCH, made)
    plain = SEARCH.run(made.bare, made.pool, made.evaluation, made.rng.child("attack"))
    found, table = figures(evidence), evidence.tables["flips"]
    assert [f.reading.accuracy for f in plain.flips] == table["accuracy"]
    assert table["bits flipped"] == list(range(1, len(plain.flips) + 1))
    after = flipped(made.bare, plain.numbers)
    assert found["accuracy under attack"] == pytest.approx(accuracy(after, made.evaluation))
    assert found["bits flipped"] == found["bits flipped until the goal"] == plain.distance
    rows = evidence.samples
    wrong = after.scores(made.evaluation.x).argmax(1).numpy() != rows["label"]
    right = rows["clean_label"] == rows["label"]
    np.testing.assert_array_equal(rows["eligible"], right)
    np.testing.assert_array_equal(rows["success"], right & wrong)
    assert found["attack success rate"] == pytest.approx((right & wrong).sum() / right.sum())
    assert evidence.spent["flips"] == plain.distance
    assert evidence.spent["attack backward"] == plain.spent.backward > 0


@dataclass(frozen=True, kw_only=True)
class _Undone(RandomFlips):
    """Flips bits at random, and then all but one of them back."""

    def run(self, *args, **more):
        outcome = super().run(*args, **more)
        return replace(outcome, flips=outcome.flips + outcome.flips[1:])


def test_a_bit_that_flips_again_is_as_it_was(bench):
    made = bench()
    evidence = struck(_Undone(budget=5), made)
    table = evidence.tables["flips"]
    assert table["bits flipped"] == [1, 2, 3, 4, 5, 4, 3, 2, 1]
    assert figures(evidence)["bits flipped"] == 1
    fault = Fault(tensor=table["tensor"][0], index=tuple(table["index"][0]), bit=table["bit"][0])
    after = flipped(made.bare, [made.bare.memory.number(fault)])
    np.testing.assert_array_equal(
        evidence.samples["attacked_label"], after.scores(made.evaluation.x).argmax(1).numpy()
    )


def test_who_does_not_know_of_copies_changes_nothing_and_who_does_all(bench):
    plain = struck(SEARCH, bench())
    unaware = struck(SEARCH, bench(defense=Triplication(), aware=False))
    aware = struck(SEARCH, bench(defense=Triplication(), aware=True))
    clean = figures(plain)["clean accuracy"]
    assert figures(unaware)["accuracy under attack"] == clean
    assert figures(unaware)["faults repaired"] == 1
    assert figures(unaware)["bits flipped until the goal"] is None
    assert aware.tables["flips"]["accuracy"] == plain.tables["flips"]["accuracy"]
    assert figures(aware)["bits flipped"] == 2 * figures(plain)["bits flipped"]
    assert figures(aware)["faults repaired"] == 0


def test_flips_spread_over_words_are_corrected_and_hidden_ones_are_not(bench):
    attack = RandomFlips(budget=6)
    unaware = figures(struck(attack, bench(defense=SECDED(), aware=False)))
    aware = struck(attack, bench(defense=SECDED()))
    plain = struck(attack, bench())
    assert unaware["faults detected"] == unaware["faults repaired"] == 1
    assert unaware["accuracy under attack"] == unaware["clean accuracy"]
    assert figures(aware)["bits flipped"] >= 3 * 6
    np.testing.assert_array_equal(aware.samples["attacked_label"], plain.samples["attacked_label"])


def test_radar_sees_the_flips_of_who_does_not_know_it_only(bench):
    guard = RADAR(group=128)
    unaware = figures(struck(SEARCH, bench(defense=guard, aware=False)))
    aware = figures(struck(SEARCH, bench(defense=guard)))
    assert unaware["faults detected"] > 0.9
    assert aware["faults detected"] < 0.2


def test_checksums_of_products_notice_and_repair_nothing(bench):
    guard = ProductChecksums()
    plain = figures(struck(SEARCH, bench()))
    unaware = figures(struck(SEARCH, bench(defense=guard, aware=False)))
    aware = figures(struck(SEARCH, bench(defense=guard)))
    assert unaware["accuracy under attack"] == plain["accuracy under attack"]
    assert unaware["faults detected"] == 1
    assert aware["faults detected"] < 0.2
    assert unaware["false alarms of the defense"] == 0


def test_who_knows_a_restriction_searches_behind_it(bench):
    attack = BFA(budget=4, level=0.0, batch=64)
    both = [bench("float32", defense=Ranger(), aware=aware) for aware in (True, False)]
    aware, unaware = (struck(attack, made) for made in both)
    for made, evidence, model in zip(
        both, (aware, unaware), (both[0].defended, both[0].bare), strict=True
    ):
        run = attack.run(model, made.pool, made.evaluation, made.rng.child("attack"))
        assert evidence.tables["flips"]["bit"] == [f.fault.bit for f in run.flips]
        left = accuracy(flipped(made.defended, run.numbers), made.evaluation)
        assert figures(evidence)["accuracy under attack"] == pytest.approx(left)
    assert "faults detected" not in figures(aware)
    assert 0 < figures(aware)["storage of the defense"] < 0.01


def test_who_knows_that_weights_are_read_within_reach_searches_so(bench):
    guard = WeightReconstruction(reach=1.0)
    aware = bench(defense=guard)
    evidence = struck(SEARCH, aware)
    run = SEARCH.run(aware.defended, aware.pool, aware.evaluation, aware.rng.child("attack"))
    assert evidence.tables["flips"]["accuracy"] == [f.reading.accuracy for f in run.flips]
    found = figures(evidence)
    assert found["clean accuracy"] == pytest.approx(accuracy(aware.defended, aware.evaluation))
    assert found["storage of the defense"] == 0
    unaware = struck(SEARCH, bench(defense=guard, aware=False))
    plain = SEARCH.run(aware.bare, aware.pool, aware.evaluation, aware.rng.child("attack"))
    assert unaware.tables["flips"]["bit"] == [f.fault.bit for f in plain.flips]
    assert unaware.tables["flips"]["accuracy"] != [f.reading.accuracy for f in plain.flips]


def test_targeted_attacks_count_inputs_of_other_classes(bench):
    made = bench()
    evidence = struck(TBFA(target=3, budget=12, batch=64), made)
    rows = evidence.samples
    assert (rows["label"][rows["eligible"]] != 3).all()
    assert (rows["attacked_label"][rows["success"]] == 3).all()
    assert evidence.tables["flips"]["success"][-1] == pytest.approx(
        (rows["attacked_label"] == 3)[rows["label"] != 3].mean()
    )


def test_a_trigger_is_shown_and_its_own_effect_told(bench):
    made = bench()
    attack = TBT(target=2, neurons=8, size=3, trigger_steps=20)
    evidence = struck(attack, made)
    run = attack.run(made.bare, made.pool, made.evaluation, made.rng.child("attack"))
    shown = run.trigger(made.evaluation.x)
    after = flipped(made.bare, run.numbers).scores(shown).argmax(1).numpy()
    alone = made.bare.scores(shown).argmax(1).numpy()
    eligible = evidence.samples["eligible"]
    found = figures(evidence)
    assert found["attack success rate"] == pytest.approx((after[eligible] == 2).mean())
    null = found["attack success rate without the attack"]
    assert null == pytest.approx((alone[eligible] == 2).mean())
    behind = figures(struck(attack, bench(defense=Triplication(), aware=False)))
    assert behind["attack success rate"] == pytest.approx(null)


def test_only_cells_of_the_module_flip(bench, tmp_path):
    cells = "".join(
        f"0,{offset},{bit},1->0\n" for offset in range(600, 4000, 30) for bit in (5, 6, 7)
    )
    path = tmp_path / "cells.csv"
    path.write_text(f"# 40 pages of 4096 bytes\npage,offset,bit,direction\n{cells}", "ascii")
    module = MemoryModule(file=path, per_page=3)
    for attack in (BFA(budget=9, batch=64), RandomFlips(budget=9)):
        made = bench(module=module)
        flips = struck(attack, made).tables["flips"]
        memory = made.bare.memory
        assert 0 < len(flips["bit"]) <= 3  # one page has all the cells
        for tensor, index, bit in zip(flips["tensor"], flips["index"], flips["bit"], strict=True):
            word = np.ravel_multi_index(index, memory[tensor].shape)
            number = memory.span(tensor)[0] + 8 * word + bit
            byte, place = (int(a[0]) for a in memory.addresses(np.array([number])))
            assert byte % 4096 in range(600, 4000, 30)
            assert place in (5, 6, 7)
            assert memory.read(np.array([number]))[0] == 1


def test_a_module_binds_the_control_and_second_flips_as_well(bench):
    module = MemoryModule(profile="I_1", per_page=16)
    made = bench(module=module)
    last = struck(RandomFlips(budget=4, layers=("6",)), made).tables["flips"]
    assert set(last["tensor"]) == {"6.weight"}
    plain = struck(BFA(budget=4, batch=64), made).tables["flips"]
    for guard in (RADAR(group=128), ProductChecksums()):
        evidence = struck(BFA(budget=4, batch=64), bench(module=module, defense=guard))
        assert len(evidence.tables["flips"]["bit"]) == 4
        assert evidence.tables["flips"]["bit"] == plain["bit"]
        assert figures(evidence)["bits flipped"] <= 8


DEFENSES = {
    "none": ("int8", None),
    "secded": ("int8", SECDED()),
    "radar": ("int8", RADAR(group=128)),
    "triplication": ("int8", Triplication()),
    "products": ("int8", ProductChecksums()),
    "reconstruction": ("int8", WeightReconstruction(reach=1.0)),
    "ranger": ("float32", Ranger()),
}


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("name", DEFENSES)
def test_the_last_row_of_the_table_is_what_is_measured(bench, name, aware):
    form, guard = DEFENSES[name]
    attack = BFA(budget=5, level=0.0, batch=64, flip_back=True)
    evidence = struck(attack, bench(form, defense=guard, aware=aware))
    found, table = figures(evidence), evidence.tables["flips"]
    assert table["accuracy"][-1] == pytest.approx(found["accuracy under attack"])
    assert table["bits flipped"][-1] == found["bits flipped"]


def test_a_goal_that_needs_no_flip_is_no_attack(bench):
    evidence = struck(BFA(level=1.0), bench())
    assert [f.id for f in evidence.failed] == ["goal-before-attack"]
    assert figures(evidence)["bits flipped until the goal"] == 0


def test_a_search_that_finds_nothing_is_no_robustness(bench, tmp_path):
    path = tmp_path / "none.csv"
    path.write_text("# 40 pages of 4096 bytes\npage,offset,bit,direction\n", "ascii")
    evidence = struck(SEARCH, bench(module=MemoryModule(file=path)))
    assert [f.id for f in evidence.failed] == ["search-stuck"]
    found = figures(evidence)
    assert found["accuracy under attack"] == found["clean accuracy"]
    assert not struck(SEARCH, bench()).flags


# -- accidents --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A network whose faults can all be tried by hand."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    x = torch.randn(40, 3)
    truth = module(x).argmax(1)
    truth[:7] = (truth[:7] + 1) % 3
    samples = Samples(x=x, labels=truth)

    def made(form="int8", **more):
        bare = deploy(module, (3,), NumberFormat(name=form), calibration=x)
        return Bench(
            bare=bare, pool=samples, evaluation=samples, clean=x, rng=stream(0, "small"), **more
        )

    return made


def by_hand(bench, critical):
    """Return each bit's corruption, drop and whether it is critical, by a full pass each."""
    model, data = bench.bare, bench.evaluation
    before = model.scores(data.x).argmax(1)
    changed, drop = [], []
    for n in range(model.memory.bits):
        now = flipped(model, np.array([n])).scores(data.x).argmax(1)
        changed.append(float((now != before).double().mean()))
        drop.append(
            float(((before == data.labels).double() - (now == data.labels).double()).mean())
        )
    return np.array(changed), np.array(drop), np.array(drop) > critical


def test_exhaustive_faults_are_those_tried_by_hand(small):
    made = small()
    evidence = struck(RandomFaults(estimator="exhaustive", critical=0.1), made)
    changed, drop, critical = by_hand(made, 0.1)
    found = figures(evidence)
    assert found["mean corruption"] == pytest.approx(changed.mean())
    assert found["mean accuracy drop"] == pytest.approx(drop.mean())
    assert found["critical faults"] == pytest.approx(critical.mean())
    assert evidence.spent["faults"] == made.bare.memory.bits
    table = evidence.tables["vulnerability"]
    for i, (tensor, bit) in enumerate(zip(table["tensor"], table["bit"], strict=True)):
        low, high = made.bare.memory.span(tensor)
        mine = changed[low:high].reshape(-1, made.bare.memory[tensor].word.bits)[:, bit]
        assert table["corruption"][i] == pytest.approx(mine.mean())
        assert table["tried"][i] == table["population"][i] == len(mine)


def of_kind(memory, number, kind):
    """Return the bits that a fault of a kind inverts at a bit."""
    if kind == "burst":
        _, end = next(s for r in memory.regions if (s := memory.span(r.name))[0] <= number < s[1])
        return np.arange(number, min(number + 3, end))
    stays = memory.read(np.array([number]))[0] == int(kind[-1])
    return np.zeros(0, dtype=np.int64) if stays else np.array([number])


@pytest.mark.parametrize("kind", ["burst", "stuck at 0", "stuck at 1"])
def test_faults_of_other_kinds_are_those_tried_by_hand(small, kind):
    made = small()
    length = 3 if kind == "burst" else None
    evidence = struck(RandomFaults(kind=kind, length=length, estimator="exhaustive"), made)
    model, data = made.bare, made.evaluation
    before = model.scores(data.x).argmax(1)
    changed, lost = 0, 0
    for n in range(model.memory.bits):
        now = flipped(model, of_kind(model.memory, n, kind)).scores(data.x).argmax(1)
        changed += int((now != before).sum())
        lost += int((before == data.labels).sum() - (now == data.labels).sum())
    found, n = figures(evidence), len(data) * model.memory.bits
    assert found["mean corruption"] == pytest.approx(changed / n)
    assert found["mean accuracy drop"] == pytest.approx(lost / n)
    flips = figures(struck(RandomFaults(estimator="exhaustive"), made))
    assert 0 < found["mean corruption"] != flips["mean corruption"]


def test_random_words_are_as_bad_as_the_mean_over_all_of_them(small):
    made = small()
    model, x = made.bare, made.evaluation.x
    before, changed = model.scores(x).argmax(1), []
    for region in made.bare.memory.where(roles=("weight",)):
        start = model.memory.span(region.name)[0]
        for word in range(region.count):
            for mask in range(256):
                bits = start + 8 * word + np.flatnonzero([mask >> b & 1 for b in range(8)])
                changed.append(
                    float((flipped(model, bits).scores(x).argmax(1) != before).float().mean())
                )
    attack = RandomFaults(
        kind="random value", estimator="simple", budget=10**6, tolerance=1e-6, roles=("weight",)
    )
    found = figures(struck(attack, made))["mean corruption"]
    each = np.array(changed).reshape(-1, 256)
    # eight draws of a word each
    deviation = np.sqrt((each.var(axis=1) / 8).sum()) / len(each)
    assert abs(found - each.mean()) < 4 * deviation
    with pytest.raises(ParameterError, match='estimator is "exhaustive", but a random value'):
        RandomFaults(kind="random value", estimator="exhaustive")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"kind": "stuck"}, 'kind is "stuck", but must be one of flip, burst, stuck at 0'),
        ({"kind": "burst", "length": 1}, "length must be a whole number from 2 to 256, got 1"),
        ({"length": 3}, 'length is of bursts, but kind is "flip"; remove it'),
        ({"estimator": "neyman"}, 'estimator is "neyman", but must be one of stratified'),
    ],
)
def test_kinds_of_faults_that_make_no_sense_are_one_sentence(made, words):
    with pytest.raises(ParameterError, match=words):
        RandomFaults(**made)


def test_scores_that_are_no_numbers_serve_nobody(small):
    made = small("float32")
    evidence = struck(RandomFaults(estimator="exhaustive"), made)
    model, data = made.bare, made.evaluation
    before = model.scores(data.x).argmax(1)
    changed, lost = 0, 0
    for n in range(model.memory.bits):
        scores = flipped(model, np.array([n])).scores(data.x)
        now = scores.argmax(1).masked_fill(~scores.isfinite().all(1), -1)
        changed += int((now != before).sum())
        lost += int((before == data.labels).sum() - (now == data.labels).sum())
    found, n = figures(evidence), len(data) * model.memory.bits
    assert found["mean corruption"] == pytest.approx(changed / n)
    assert found["mean accuracy drop"] == pytest.approx(lost / n)


@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize("estimator", ["exhaustive", "stratified", "importance", "simple"])
def test_a_limit_of_memory_changes_no_figure(small, estimator, form):
    attack = RandomFaults(estimator=estimator, budget=300)
    whole = struck(attack, small(form))
    graph = small(form).bare.graph
    left = room._LEAST * room._EACH + 7 * bytes_per_image(graph)
    limit = (room._FIXED + left) * 8 // 7 + 8
    assert room.room(graph, limit).images == 7
    assert figures(struck(attack, small(form, memory_limit=limit))) == figures(whole)


def test_too_little_memory_is_one_sentence(small):
    attack = RandomFaults(estimator="exhaustive")
    with pytest.raises(
        ParameterError, match="memory_limit is 2 MiB, but one image at a time takes"
    ):
        check(attack, small(memory_limit=2 << 20))
    check(RandomFlips(budget=3), small(memory_limit=2 << 20))  # tries no single faults
    few = small(memory_limit=80 << 20)
    check(RandomFaults(estimator="importance"), few)
    many = replace(few, bare=deploy(nn.Linear(3, 30_000).eval(), (3,)))  # 3.8 million bits
    with pytest.raises(
        ParameterError,
        match=r"memory_limit is 80 MiB, but importance sampling of 3,840,000 bits takes 184 MiB",
    ):
        check(RandomFaults(estimator="importance"), many)
    check(RandomFaults(), many)
    with pytest.raises(ParameterError, match="memory_limit is 0, but must be at least 1"):
        Deployment(memory_limit=0)


@pytest.mark.parametrize("estimator", ["stratified", "importance", "simple"])
def test_samples_estimate_the_same_means(small, estimator):
    made = small()
    changed, drop, critical = by_hand(made, 0.05)
    budget = 600
    evidence = struck(RandomFaults(estimator=estimator, budget=budget), made)
    for m in evidence.measurements[:3]:
        truth = {"mean corruption": changed, "mean accuracy drop": drop}.get(m.name, critical)
        assert m.low <= truth.mean() <= m.high
        assert m.n <= budget
        assert m.method == estimator
        half = max(m.high - m.value, m.value - m.low)
        wide = evidence.notes.get("intervals wider than the tolerance after the budget", [])
        assert (m.name in wide) == (half > 0.1 * abs(m.value))
    assert ("vulnerability" in evidence.tables) == (estimator == "stratified")


def test_no_single_fault_gets_past_a_code_that_corrects_one(small):
    found = figures(struck(RandomFaults(estimator="exhaustive"), small(defense=SECDED())))
    assert found["mean corruption"] == found["critical faults"] == 0
    assert found["faults detected"] == found["faults repaired"] == 1
    assert found["storage of the defense"] > 0.125


def test_bit_errors_are_as_many_as_the_rate_says(small):
    made = small()
    nothing = figures(struck(BitErrors(rate=0.0, draws=3), made))
    assert nothing["accuracy under attack"] == pytest.approx(nothing["clean accuracy"])
    assert nothing["bits flipped"] == 0
    every = struck(BitErrors(rate=1.0, draws=2), made)
    numbers = np.arange(made.bare.memory.bits)
    assert figures(every)["accuracy under attack"] == pytest.approx(
        accuracy(flipped(made.bare, numbers), made.evaluation)
    )
    guarded = struck(BitErrors(rate=0.01, draws=50), small(defense=SECDED()))
    few = struck(BitErrors(rate=0.0, draws=3), made).measurements[0]
    low, high = wilson(round(few.value * 40), 40)  # as wide as the images leave it
    assert few.low <= low < high <= few.high
    bits = guarded.spent["bits that can be struck"]
    assert bits == made.bare.memory.bits + SECDED().storage(made.bare.memory)
    expected = 0.01 * bits
    assert abs(figures(guarded)["bits flipped"] - expected) < 4 * (expected / 50) ** 0.5
    # two wrong bits of a word are noticed and stay
    assert 0 < figures(guarded)["faults repaired"] < figures(guarded)["faults detected"]
    plain = struck(BitErrors(rate=0.01, draws=50), made)
    assert (
        figures(guarded)["accuracy under attack"] > figures(plain)["accuracy under attack"] + 0.05
    )


def test_a_rate_whose_errors_do_not_fit_into_memory_is_refused_with_one_that_does(
    small, monkeypatch
):
    monkeypatch.setattr(bit_errors, "_MOST_FLIPS", 100)
    made = small()
    at_most = 100 / made.bare.memory.bits
    with pytest.raises(ParameterError, match=rf"rate is 0.5.* at most {at_most:.3g} fits"):
        check(BitErrors(rate=0.5), made)
    check(BitErrors(rate=0.99 * at_most), made)


# -- what makes no sense ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "more", "words"),
    [
        (BFA(layers=("fc9",)), {}, 'has no layer "fc9"'),
        (TBFA(target=10), {}, "knows the labels 0 to 9"),
        (TBT(target=0, neurons=8, size=9), {}, "does not fit into images of 8 x 8"),
        (RandomFlips(budget=10**7), {}, "budget is 10000000, but the weights have"),
        (RandomFaults(layers=("fc9",)), {}, 'has no layer "fc9"'),
        (BitErrors(rate=0.5), {"module": MemoryModule()}, "rowhammer is for attacks that flip"),
        (RandomFaults(), {"module": MemoryModule()}, "rowhammer is for attacks that flip"),
        (None, {"defense": Ranger()}, "ranger restricts activations in floating point"),
        (None, {"defense": Triplication(layers=("x",))}, 'has no layer "x"'),
        (None, {"module": MemoryModule(pages=1)}, "pages is 1, but the deployed model takes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(bench, attack, more, words):
    with pytest.raises(UsageError, match=words):
        check(attack, bench(**more))


def test_radar_needs_integers_and_modules_a_known_name(bench):
    with pytest.raises(UsageError, match="radar needs weights of eight bits"):
        check(None, bench("float32", defense=RADAR()))
    with pytest.raises(ParameterError, match=r'profile has no "G_2"\. Did you mean "?G_1'):
        MemoryModule(profile="G_2")


def test_a_network_has_to_give_a_score_a_class(digits):
    pool, evaluation = digits
    with pytest.raises(UsageError, match="gives a row of 11 scores, one a class, but this one"):
        bench_of(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            Deployment(),
            samples=evaluation,
            pool=pool,
            clean=pool.x[:20],
            defense=None,
            rng=stream(0, "bench"),
            classes=11,
        )


def test_a_layer_over_tokens_computes_in_integers(digits):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(2),
        nn.Linear(64, 12),
        nn.ReLU(),
        nn.Linear(12, 12),
        nn.Flatten(),
        nn.Linear(12, 10),
    ).eval()
    x = digits[0].x[:60]
    made = deploy(module, (1, 8, 8), NumberFormat(name="int8"), calibration=x)
    assert sum("one scale in all" in note for note in made.notes) == 2
    assert (made.scores(x).argmax(1) == module(x).argmax(1)).double().mean() > 0.9
