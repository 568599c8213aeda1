from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from casemate.campaign.expand import expand_values
from casemate.campaign.fieldtypes import field_types, list_depth

HEAD = """
casemate: 1
name: grid
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 1}}
trials:
"""


def attacks(spec):
    return [t.attack.settings for t in spec.trials]


def test_lists_make_a_grid_whose_last_list_varies_fastest(spec_of):
    spec = spec_of(HEAD + "  - attack: {name: [fgsm, bim], epsilon: [1/4, 0.5]}\n")
    found = [(a["name"], a["epsilon"]) for a in attacks(spec)]
    assert found == list(itertools.product(["fgsm", "bim"], [0.25, 0.5]))
    assert [t.number for t in spec.trials] == [1, 2, 3, 4]


def test_the_grid_spans_sections(spec_of):
    spec = spec_of(
        HEAD + "  - {attack: {name: fgsm}, goal: {from: [1, 2], to: [3, 4]}, seed: [0, 1]}\n"
    )
    found = [(t.goal.from_, t.goal.to, t.options.seed) for t in spec.trials]
    assert found == list(itertools.product([1, 2], [3, 4], [0, 1]))


def test_a_list_of_sections_is_a_grid_too(spec_of):
    spec = spec_of(
        HEAD + "  - attack: [{name: fgsm}, {name: pgd, steps: [1, 2]}]\n    samples: [5, 6]\n"
    )
    found = [
        (a["name"], a.get("steps"), t.options.samples)
        for a, t in zip(attacks(spec), spec.trials, strict=True)
    ]
    assert found == [
        ("fgsm", None, 5), ("fgsm", None, 6),
        ("pgd", 1, 5), ("pgd", 1, 6), ("pgd", 2, 5), ("pgd", 2, 6),
    ]  # fmt: skip


def test_a_list_that_is_the_value_does_not_expand_and_a_list_of_them_does(spec_of):
    text = HEAD.replace("architecture: lenet", "architecture: lenet, channels: PAIR")
    one = spec_of(text.replace("PAIR", "[4, 8]") + "  - attack: {name: fgsm}\n")
    assert [t.model.settings["channels"] for t in one.trials] == [[4, 8]]
    two = spec_of(text.replace("PAIR", "[[4, 8], [5, 9]]") + "  - attack: {name: fgsm}\n")
    assert [t.model.settings["channels"] for t in two.trials] == [[4, 8], [5, 9]]


def test_nested_parameters_expand(spec_of):
    text = HEAD.replace("epochs: 1", "epochs: [1, 2], augmentation: {shift: [0, 1]}")
    spec = spec_of(text + "  - attack: {name: fgsm}\n")
    found = [(t.model.recipe.epochs, t.model.recipe.augmentation.shift) for t in spec.trials]
    assert found == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_an_attackers_position_without_a_defense_is_one_trial(spec_of):
    spec = spec_of(
        HEAD + "  - attack: {name: fgsm}\n    defense: [null, {name: median}]\n"
        "    attacker: [before, aware]\n"
    )
    found = [(t.defense is not None, t.options.attacker) for t in spec.trials]
    assert found == [(False, "aware"), (True, "before"), (True, "aware")]


def test_an_empty_list_and_an_endless_grid_are_refused(problems_of):
    assert "empty list" in problems_of(HEAD + "  - attack: {name: fgsm, epsilon: []}\n")
    many = ", ".join(str(i) for i in range(1, 400))
    text = HEAD + f"  - attack: {{name: pgd, steps: [{many}], restarts: [{many}]}}\n"
    assert "expands to 159,201 trials" in problems_of(text)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    pair: tuple[int, int] = (1, 2)
    rows: tuple[tuple[int, ...], ...] = ()
    either: int | tuple[int, int] | None = None
    number: float = 0.0


@pytest.mark.parametrize(
    ("name", "depth"), [("pair", 1), ("rows", 2), ("either", 1), ("number", 0)]
)
def test_depth_of_lists_by_nature(name, depth):
    assert list_depth(field_types(Plugin)[name]) == depth


def test_variants_know_where_they_stand():
    found = expand_values([[1, 2], [3, 4]], tuple[int, int], ("a",))
    assert [(v.value, v.path) for v in found] == [([1, 2], ("a", 0)), ([3, 4], ("a", 1))]


def test_types_that_are_imported_for_checking_only_are_resolved():
    from casemate.inference.attacks.pgd import PGD

    types = field_types(PGD)
    assert types["epsilon"] is float
    assert types["step_size"] == float | None
    assert "linf" in str(types["norm"])
