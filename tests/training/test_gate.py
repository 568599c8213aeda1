from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.mlp import MLP
from casemate.random import stream
from casemate.stats import rate
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.label_flips import LabelFlips
from casemate.training.defended import Repaired, Sanitized
from casemate.training.gate import defended, found, hold_out, learned, poison
from casemate.training.lab import Lab
from casemate.training.loop import train
from casemate.training.poisoned import Poisoned
from casemate.training.recipe import Recipe

RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=0.2, precision="float32")


def data(n=80, groups=None):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    inputs = rng.random((n, 4)).astype(np.float32)
    inputs[:, 0] = labels
    return Dataset.from_arrays(
        name="made",
        inputs=inputs,
        labels=labels,
        classes=("a", "b"),
        domain=Domain(shape=(4,)),
        groups=groups,
    )


def lab(**options):
    return Lab(architecture=MLP(hidden=(4,)), recipe=RECIPE, **options)


def trained(dataset):
    return train(MLP(hidden=(4,)), RECIPE, dataset, seed=0)


@dataclass(frozen=True, kw_only=True)
class Cut:
    phase: ClassVar[str] = "before"
    cut: tuple[int, ...] = (1, 2)

    def sanitize(self, dataset, rng, lab, clean=None):
        lab.trained(dataset)
        suspects = torch.tensor(self.cut)
        keep = torch.ones(len(dataset), dtype=torch.bool)
        keep[suspects] = False
        return Sanitized(
            dataset=dataset.select(keep.nonzero().squeeze(1), how="cut"),
            suspects=suspects,
            notes={"layer": "fc"},
        )


@dataclass(frozen=True, kw_only=True)
class Swap:
    phase: ClassVar[str] = "after"
    seen: list = field(default_factory=list)

    def repair(self, model, rng, lab, clean=None):
        self.seen.append((model, clean))
        return Repaired(model=replace(model, digest="mended"), found=1, score=2.5)


@dataclass(frozen=True, kw_only=True)
class Other:
    phase: ClassVar[str] = "during"

    def train(self, dataset, rng, lab, clean=None):
        return Repaired(model=lab.trained(dataset))


def test_about_as_many_as_asked_are_held_out_and_nobody_twice():
    rest, held = hold_out(data(), 20, seed=3)
    assert (len(rest), len(held)) == (60, 20)
    assert not torch.isin(rest.rows, held.rows).any()
    again, _ = hold_out(data(), 20, seed=3)
    assert again.digest == rest.digest
    assert hold_out(data(), 20, seed=4)[0].digest != rest.digest


def test_groups_stay_together():
    grouped = data(groups=np.arange(80) // 10)
    rest, held = hold_out(grouped, 20, seed=0)
    assert not torch.isin(rest.group_ids, held.group_ids).any()


def test_nothing_held_out_is_the_set_itself():
    whole = data()
    assert hold_out(whole, 0, seed=0) == (whole, None)
    with pytest.raises(UsageError, match="clean asks for 80 samples, but made has 80"):
        hold_out(whole, 80, seed=0)


def test_a_lab_is_handed_only_to_who_declares_a_surrogate():
    class Plain:
        def poison(self, dataset, rng):
            return Poisoned(clean=dataset, dataset=dataset, touched=torch.tensor([0]))

    class Informed:
        surrogate = True

        def poison(self, dataset, rng, lab):
            lab.trained(dataset)
            return Poisoned(clean=dataset, dataset=dataset, touched=torch.tensor([1]))

    theirs = lab()
    assert poison(Plain(), data(), seed=0, lab=theirs).touched.tolist() == [0]
    assert theirs.models == 0
    assert poison(Informed(), data(), seed=0, lab=theirs).touched.tolist() == [1]
    assert theirs.models == 1


def test_the_same_seed_poisons_the_same():
    flips = LabelFlips(amount=Amount(count=10))
    first, again, other = (poison(flips, data(), seed=s, lab=lab()) for s in (1, 1, 2))
    assert first.dataset.digest == again.dataset.digest != other.dataset.digest


def test_before_training_the_model_sees_what_is_left():
    whole, seen = data(), []

    def undefended(dataset):
        seen.append(dataset)
        return trained(dataset)

    passage = defended(
        Cut(), whole, torch.tensor([2, 9, 11]), undefended, seed=0, lab=lab(), clean=None
    )
    assert [len(d) for d in seen] == [78]
    figures = {m["name"]: (m["value"], m["n"]) for m in passage.facts["measurements"]}
    assert figures == {"precision of removal": (0.5, 2), "recall of removal": (1 / 3, 3)}
    assert passage.facts["notes"] == {"layer": "fc"}
    assert (passage.facts["models"], passage.facts["samples"]) == (1, 320)


def test_after_training_the_undefended_model_is_mended():
    whole, swap = data(), Swap()
    _, held = hold_out(whole, 10, seed=0)
    passage = defended(swap, whole, torch.tensor([0]), trained, seed=0, lab=lab(), clean=held)
    assert passage.model.digest == "mended"
    assert swap.seen[0][0].digest == trained(whole).digest
    assert swap.seen[0][1] is held
    assert passage.facts["notes"] == {"score": 2.5, "found": 1}


def test_who_names_a_class_and_no_score_is_heard_too():
    class Names:
        phase = "after"

        def repair(self, model, rng, lab, clean=None):
            return Repaired(model=model, found=0)

    passage = defended(Names(), data(), torch.tensor([0]), trained, seed=0, lab=lab(), clean=None)
    assert passage.facts["notes"] == {"score": None, "found": 0}


def test_during_training_nothing_else_is_trained():
    def never(dataset):
        raise AssertionError("the undefended model is not asked for")

    passage = defended(Other(), data(), torch.tensor([0]), never, seed=0, lab=lab(), clean=None)
    assert passage.facts["models"] == 1


def test_scores_are_ranked_against_the_truth():
    scores = torch.tensor([0.1, 0.9, float("nan"), 0.8, 0.2])
    sanitized = Sanitized(dataset=data(), suspects=torch.tensor([1, 3]), scores=scores)
    rates = {m.name: m for m in found(sanitized.suspects, torch.tensor([1, 2]), sanitized.scores)}
    assert rates["area under the curve"].value == 1.0  # what was not scored is not ranked
    assert rates["area under the curve"].n == 1
    assert rates["precision of removal"].value == 0.5


def test_scores_of_classes_are_compared_within_them():
    """A clean class with larger scores does not hide poison that leads its own class."""
    kinds = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    scores = torch.tensor([50.0, 60.0, 70.0, 1.0, 2.0, 3.0, 3.0])
    bad, nobody = torch.tensor([5]), torch.empty(0, dtype=torch.int64)
    pooled = found(nobody, bad, scores)[-1]
    within = found(nobody, bad, scores, kinds)[-1]
    assert pooled.value == pytest.approx((2 + 0.5) / 6)
    assert within.value == pytest.approx((2 + 0.5) / 3)  # half a point for the tie
    # two poisoned classes count by their ranks: 3/3 against 1/3, 2/3, and 2/4 against the others
    two = found(nobody, torch.tensor([2, 4]), scores, kinds)[-1]
    # 1.0 beats all of 1/3, 2/3, 1/4, 7/8, 7/8; 1/2 beats 1/3 and 1/4
    assert two.value == pytest.approx((5 + 2) / 10)


def test_on_clean_data_there_is_no_recall():
    sanitized = Sanitized(dataset=data(), suspects=torch.tensor([1, 3]))
    nobody = torch.empty(0, dtype=torch.int64)
    rates = {m.name: m.value for m in found(sanitized.suspects, nobody)}
    assert rates == {"precision of removal": 0.0, "recall of removal": None}


def test_what_is_learned_is_the_poison_and_not_its_cover():
    whole = data()
    poisoned = LabelFlips(amount=Amount(count=4)).poison(whole, stream(0, "x"))
    touched = torch.arange(len(whole))  # all others are covers, which keep their labels
    poisoned = Poisoned(clean=whole, dataset=poisoned.dataset, touched=touched)
    measured = learned(trained(whole), poisoned, device="cpu")
    assert (measured.value, measured.n) == (0.0, 4)


def test_much_poison_is_sampled_over_the_whole_set(monkeypatch):
    whole = data()
    monkeypatch.setattr("casemate.training.gate._MOST_LEARNED", len(whole) - 1)
    seen = []
    monkeypatch.setattr(
        "casemate.training.gate.accuracy",
        lambda _, some: seen.append(some.rows) or rate("accuracy", 1, len(some)),
    )
    everything = Poisoned(clean=whole, dataset=whole, touched=torch.arange(len(whole)))
    learned(trained(whole), everything, device="cpu")
    assert seen[0].tolist()[0] == 0
    assert seen[0].tolist()[-1] == len(whole) - 1


def test_poison_is_learned_or_not():
    whole = data()
    poisoned = LabelFlips(amount=Amount(count=10)).poison(whole, stream(0, "x"))
    clean_model = trained(whole)
    assert learned(clean_model, poisoned, device="cpu").value == 0.0
    untouched = Poisoned(clean=whole, dataset=whole, touched=poisoned.touched)
    assert learned(clean_model, untouched, device="cpu").value == 1.0
