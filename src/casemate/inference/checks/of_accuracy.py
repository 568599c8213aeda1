"""Checks of the accuracy: as declared, above chance, and in the right order of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casemate.inference.checks.problem import Problem, few, percent
from casemate.stats import Z99, mcnemar, wilson

if TYPE_CHECKING:
    from casemate.inference.checks.probe import Probe

__all__ = ["above_chance", "class_order", "declared"]

_GAIN = 0.05
"""Least gain in accuracy that makes another order of classes worth reporting."""
_SURE = 1e-4
"""Greatest p value of that gain on samples that had no part in finding the order."""


def declared(probe: Probe, accuracy: float | None) -> list[Problem]:
    """The declared accuracy must lie in the 99 % interval of the measured one."""
    right, n = int(probe.right.sum()), len(probe.y)
    if accuracy is None:
        return []
    low, high = wilson(right, n, z=Z99)
    if low <= accuracy <= high:
        return []
    return [
        Problem(
            id="accuracy",
            severity="error" if accuracy > high else "warning",
            message=f"the declared accuracy is {percent(accuracy)} but {percent(right / n)} of {n} "
            f"samples are right (99 % interval {percent(low)} to {percent(high)})",
            remedy="check preprocessing, the order of classes, the data and the weights"
            if accuracy > high
            else "declare the accuracy on these data",
        )
    ]


def above_chance(probe: Probe) -> list[Problem]:
    """The model must beat always answering the most frequent class."""
    right, n = int(probe.right.sum()), len(probe.y)
    counts = np.unique(probe.y.numpy(), return_counts=True)[1]
    if len(counts) < 2:  # noqa: PLR2004 - with one class there is no chance to beat
        return []
    low, high = wilson(right, n)
    chance = float(counts.max()) / n
    if low > chance:
        return []
    return [
        Problem(
            id="chance",
            severity="error",
            message=f"{percent(right / n)} of {n} samples are right (95 % interval {percent(low)} "
            f"to {percent(high)}), no better than always answering the most frequent class "
            f"({percent(chance)})",
            remedy="check that the weights are loaded and that preprocessing and labels are those "
            "of the training",
        )
    ]


def class_order(probe: Probe) -> list[Problem]:
    """No other order of the classes may make the model much better.

    The assignment of outputs to classes with most right answers is found on one half of the
    samples (linear sum assignment on the confusion matrix) and judged on the other, so that a poor
    model is not accused because some order always fits a little better.
    """
    classes = probe.scores.shape[1]
    inside = (probe.y >= 0) & (probe.y < classes)
    y, predicted = probe.y[inside].numpy(), probe.predicted[inside].numpy()
    if len(y) < 2:  # noqa: PLR2004 - two halves
        return []
    half = np.arange(len(y)) % 2 == 0
    found = _assignment(y[half], predicted[half], classes)
    before = predicted[~half] == y[~half]
    after = found[predicted[~half]] == y[~half]
    p = mcnemar(int((after & ~before).sum()), int((before & ~after).sum()))
    if after.mean() - before.mean() < _GAIN or p > _SURE:
        return []
    mapping = _assignment(y, predicted, classes)
    used = np.unique(predicted)
    moved = [
        f'output {i} is "{probe.classes[mapping[i]]}"'
        for i in used
        if mapping[i] != i and mapping[i] < len(probe.classes)
    ]
    return [
        Problem(
            id="class-order",
            severity="error",
            message="the outputs seem to be in another order than the classes: "
            f"{percent(before.mean())} of {len(before)} samples are right as declared but "
            f"{percent(after.mean())} if {few(moved)}{_alphabetical(mapping, used, probe.classes)}",
            remedy="list the classes in the order of the model's outputs, or number the labels so",
        )
    ]


def _assignment(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return (classes,) the label that each output should stand for."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to import

    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (predicted, y), 1)
    # Among equals an output keeps its own class: half a sample decides nothing else.
    confusion[np.diag_indices(classes)] += 0.5 / classes
    labels: np.ndarray = linear_sum_assignment(confusion, maximize=True)[1]
    return labels


def _alphabetical(mapping: np.ndarray, used: np.ndarray, classes: tuple[str, ...]) -> str:
    """Say so if the order is that of names or numbers sorted as text, the usual reason."""
    orders = {
        "the classes' names sorted as text": sorted(range(len(classes)), key=lambda i: classes[i]),
        "label numbers sorted as text": sorted(range(len(classes)), key=str),
    }
    for name, order in orders.items():
        if len(order) == len(mapping) and all(mapping[i] == order[i] for i in used):
            return f", which is {name}"
    return ""
