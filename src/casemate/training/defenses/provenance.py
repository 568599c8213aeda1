"""Provenance: samples of one origin, such as frames of one track, are of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.training.defenses.label_votes import contradicted, numbered, votes_within

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset

__all__ = ["astray"]


def astray(dataset: Dataset) -> tuple[Tensor, Tensor] | None:
    """Return (n,) bool, whose label is not its group's, and (n,) float32, the others' share in it.

    A group has the label that most of its samples carry; without such a majority it has none, and
    all of its samples are astray. None where the data set has no groups.
    """
    if dataset.group_ids is None:
        return None
    units = numbered(dataset.group_ids)
    return contradicted(*votes_within(units, dataset.targets, len(dataset.classes)))
