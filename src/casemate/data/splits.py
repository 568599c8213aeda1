"""Seeded, stratified splits and samples of a data set, as views that copy nothing.

Where a data set has groups (GTSRB's tracks: thirty frames of one physical sign), a split keeps each
group on one side; a split by frames would let a model be tested on signs that it has seen. How
many of a class are taken is fixed by largest remainders, so each class is within one of its exact
share and the total is right; only which ones are taken is random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.errors import ParameterError, UsageError
from casemate.random import stream

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset

__all__ = [
    "check_fraction",
    "folds",
    "holdout",
    "most_held",
    "of_class",
    "stratified_sample",
    "units",
]

REVISION = 1
"""Part of every view's digest; raised whenever the same seed selects other samples."""


def check_fraction(fraction: float, what: str) -> None:
    """Raise `UsageError` unless a share of data is strictly between 0 and 1."""
    if not 0 < fraction < 1:
        raise UsageError(f"{what} must be between 0 and 1, got {fraction}")


def holdout(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split a data set in two.

    What is split is samples, or whole groups where the data set has groups; a group counts for
    the class that most of its samples have. Of each class at least one stays in the rest.

    Args:
        dataset: What to split.
        fraction: Share of each class's samples (or groups) to hold out, in (0, 1).
        seed: Chooses which ones.

    Returns:
        The rest and what is held out, each in the order of `dataset`.

    Raises:
        UsageError: If the fraction is not in (0, 1) or so small or large that a side is empty.
    """
    check_fraction(fraction, "the fraction to hold out")
    labels = dataset.targets.numpy()
    unit_of, unit_labels = _units(dataset, labels)
    per_class = np.bincount(unit_labels, minlength=len(dataset.classes))
    generator = stream(seed, "splits/holdout").numpy()
    held_count = _shares(per_class, fraction, np.maximum(per_class - 1, 0), generator)
    held_units = _first_of_each_class(unit_labels, held_count, generator.random(len(unit_labels)))
    held: np.ndarray = held_units[unit_of]
    if not held.any() or held.all():
        raise UsageError(
            f"{dataset.name}: holding out {fraction} of {len(unit_labels)} "
            f"{'samples' if dataset.group_ids is None else 'groups'} leaves one side empty; "
            "choose another fraction or take more data"
        )
    how = ("holdout", REVISION, fraction, seed)
    return (
        dataset.select(_positions(~held), how=(*how, "rest")),
        dataset.select(_positions(held), how=(*how, "held")),
    )


def most_held(dataset: Dataset, fraction: float) -> tuple[int, np.ndarray]:
    """Return how many samples `holdout` holds out at most, whatever its seed.

    Args:
        dataset: What to split.
        fraction: As for `holdout`.

    Returns:
        The most of all samples, and (classes,) int64, the most of each class.
    """
    labels = dataset.targets.numpy()
    unit_of, unit_labels = _units(dataset, labels)
    classes = len(dataset.classes)
    per_class = np.bincount(unit_labels, minlength=classes)
    sizes = -np.sort(-np.bincount(unit_of, minlength=len(unit_labels)))
    most = int(sizes[: _whole(per_class.sum() * fraction)].sum())
    # samples of a unit's own class, of which the largest units hold most; strangers all count
    own = labels == unit_labels[unit_of]
    own_sizes = np.bincount(unit_of[own], minlength=len(unit_labels))
    held_count = np.minimum(np.ceil(per_class * fraction), np.maximum(per_class - 1, 0))
    largest = _first_of_each_class(unit_labels, held_count, -own_sizes)
    each = np.bincount(unit_labels[largest], weights=own_sizes[largest], minlength=classes)
    each = each.astype(np.int64) + np.bincount(labels[~own], minlength=classes)
    return min(most, int(each.sum())), each


def units(dataset: Dataset) -> int:
    """Return how many samples there are for a split to deal out, or groups where it has any."""
    return len(dataset) if dataset.group_ids is None else len(torch.unique(dataset.group_ids))


def folds(dataset: Dataset, count: int, seed: int) -> torch.Tensor:
    """Return the fold of each sample, for cross-validation.

    What is dealt out is samples, or whole groups where the data set has groups; a group counts for
    the class that most of its samples have. The folds' shares of a class, and of all, differ by
    one at most.

    Args:
        dataset: What to split.
        count: Folds, at least 2.
        seed: Chooses which sample goes where.

    Returns:
        (n,) int64 from 0 to count - 1.

    Raises:
        UsageError: If there are fewer than 2 folds, or fewer samples (or groups) than folds.
    """
    if count < 2:  # noqa: PLR2004 - one to train on and one to look at
        raise UsageError(f"cross-validation needs at least 2 folds, got {count}")
    unit_of, unit_labels = _units(dataset, dataset.targets.numpy())
    if len(unit_labels) < count:
        kind = "samples" if dataset.group_ids is None else "groups"
        raise ParameterError(
            "folds",
            f"is {count}, but {dataset.name} has {len(unit_labels)} {kind}; ask for at most as "
            "many folds",
        )
    generator = stream(seed, "splits/folds").numpy()
    order = np.lexsort((generator.random(len(unit_labels)), unit_labels))
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % count  # dealt like cards, class after class
    return torch.from_numpy(fold[unit_of])


def stratified_sample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return a random sample with each class's share as in the whole.

    Groups are not looked at: this chooses what to attack or to show, not what to train on.

    Args:
        dataset: Where to draw from.
        count: Most samples to take, at least 1; a smaller data set is returned as it is.
        seed: Chooses which ones.

    Returns:
        A view of min(count, len(dataset)) samples in the order of `dataset`.

    Raises:
        UsageError: If count < 1.
    """
    if count < 1:
        raise UsageError(f"a sample must have at least 1 member, got {count}")
    if count >= len(dataset):
        return dataset
    labels = dataset.targets.numpy()
    per_class = np.bincount(labels, minlength=len(dataset.classes))
    generator = stream(seed, "splits/sample").numpy()
    taken = _shares(per_class, count / len(dataset), per_class, generator)
    chosen = _first_of_each_class(labels, taken, generator.random(len(labels)))
    return dataset.select(_positions(chosen), how=("sample", REVISION, count, seed))


def of_class(dataset: Dataset, label: int | str, key: str = "class") -> Dataset:
    """Return the samples of one class.

    Args:
        dataset: Where to look.
        label: A label or a class name.
        key: The parameter that names it, for messages.

    Raises:
        ParameterError: If there is no such class, or no sample of it.
    """
    number = dataset.class_index(label, key)
    mask = dataset.targets.numpy() == number
    if not mask.any():
        raise ParameterError(
            key,
            f'is "{dataset.classes[number]}" (label {number}), of which {dataset.name} holds no '
            "sample; choose another class",
        )
    return dataset.select(_positions(mask), how=("class", REVISION, number))


def _units(dataset: Dataset, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a split may not tear apart: (n,) unit of each sample, (units,) class of each."""
    if dataset.group_ids is None:
        return np.arange(len(labels)), labels
    _, unit_of = np.unique(dataset.group_ids.numpy(), return_inverse=True)
    classes = len(dataset.classes)
    pairs, counts = np.unique(unit_of * classes + labels, return_counts=True)
    unit, label = np.divmod(pairs, classes)
    order = np.lexsort((label, -counts, unit))  # of each unit the most frequent class comes first
    _, first = np.unique(unit[order], return_index=True)
    return unit_of, label[order][first]


def _shares(
    per_class: np.ndarray, fraction: float, most: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return how many to take of each class: `fraction` of it, within one, at most `most`.

    Whole parts first, then one more for the classes with the largest remainders (ties by lot)
    until the total is the rounded fraction of all.
    """
    exact = per_class * fraction
    taken: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), most)
    missing = _whole(per_class.sum() * fraction) - int(taken.sum())
    order = np.lexsort((generator.random(len(exact)), taken - exact))
    order = order[(exact > taken)[order] & (taken < most)[order]]
    taken[order[: max(missing, 0)]] += 1
    return taken


def _first_of_each_class(labels: np.ndarray, counts: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the counts[c] of each class c whose (n,) place is lowest."""
    order = np.lexsort((place, labels))
    ordered = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[rank < counts[ordered]]] = True
    return chosen


def _whole(count: float) -> int:
    """Return the nearest whole number, halves up."""
    return int(np.floor(count + 0.5))


def _positions(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(mask))
