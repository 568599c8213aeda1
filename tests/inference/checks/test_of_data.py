"""Checks of the data: each fires on its defect and is silent without."""

from __future__ import annotations

import pytest
import torch

from casemate.data.domain import Domain
from casemate.inference.checks.of_data import (
    class_names,
    domains,
    input_values,
    label_range,
    missing_classes,
)

DOMAIN = Domain(shape=(2,))


@pytest.mark.parametrize(
    "other", [Domain(shape=(3,)), Domain(shape=(2,), high=255), Domain(shape=(2,), low=-1)]
)
def test_another_domain_fires(other):
    (problem,) = domains(DOMAIN, other)
    assert (problem.id, problem.severity) == ("domain", "error")


def test_the_same_domain_is_silent_whatever_its_step():
    assert domains(DOMAIN, Domain(shape=(2,), step=1 / 255)) == []


def test_labels_outside_fire_and_are_counted():
    (problem,) = label_range(torch.tensor([0, 1, 3, 3, -1]), 3)
    assert problem.id == "labels-range"
    assert problem.message.startswith("3 of 5 labels are outside 0 to 2")
    assert problem.message.endswith("-1, 3")
    assert label_range(torch.tensor([0, 1, 2]), 3) == []
    assert label_range(torch.tensor([], dtype=torch.int64), 3) == []


def test_names_and_order_of_classes():
    assert class_names(("a", "b"), ("a", "b")) == []
    assert class_names(("a", "b"), ("x", "y")) == []  # other words for the same labels
    (count,) = class_names(("a", "b"), ("a", "b", "c"))
    assert count.id == "class-count"
    (order,) = class_names(("a", "b", "c"), ("a", "c", "b"))
    assert (order.id, order.severity) == ("class-order", "error")
    assert '1: "b" but "c"' in order.message
    (doubled,) = class_names(("Stop", " stop", "go"), ("x", "y", "z"))
    assert (doubled.id, doubled.severity) == ("class-names", "warning")
    assert doubled.message.endswith("stop")


def test_classes_without_samples_are_named():
    (problem,) = missing_classes(torch.tensor([0, 0, 2]), ("a", "b", "c", "d"))
    assert (problem.id, problem.severity) == ("classes-missing", "warning")
    assert problem.message == "2 of 4 classes have no sample in the data: b, d"
    assert missing_classes(torch.tensor([1, 0]), ("a", "b")) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_fire(bad):
    (problem,) = input_values(torch.tensor([[0.0, 1.0], [0.5, bad]]), DOMAIN)
    assert problem.message == "1 of 2 inputs hold NaN or infinite values"


def test_values_outside_fire_and_rounding_does_not():
    (problem,) = input_values(torch.tensor([[0.0, 1.0], [0.5, 255.0], [-2.0, 0.0]]), DOMAIN)
    assert problem.id == "input-values"
    assert "2 of 3 inputs leave the declared range [0, 1]: they span -2 to 255" in problem.message
    assert input_values(torch.tensor([[0.0, 1.0 + 1e-6]]), DOMAIN) == []
