"""Near duplicates: copies, or frames of one thing, that carry several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import ParameterError
from casemate.models.hyperparameters import flag, number, whole
from casemate.threats import Stage
from casemate.training.defenses.copies import (
    exact_copies,
    near_votes,
    spread_of,
    thumbnails,
    typical_gap,
)
from casemate.training.defenses.label_votes import contradicted, votes_within
from casemate.training.defenses.provenance import astray
from casemate.training.defenses.removal import removed

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase, Sanitized
    from casemate.training.lab import Lab

__all__ = ["NearDuplicates"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Removes samples that contradict their copies or the other frames of the same thing.

    Statistics of provenance; all of it is ours. An attacker who pastes a trigger on copies and
    labels them anew leaves the same picture in the set under two labels, and one who relabels a
    frame of a track leaves a track of two labels. No model is trained.

    Inputs are compared as thumbnails: means over at most `side` x `side` fields of an image, each
    channel for itself; features as they are. Two inputs are copies if the root mean square of
    their difference is below `tolerance`, as a share of the standard deviation of the flatter
    thumbnail (so that dark pictures are not all alike, and one of a single color has no copies).
    For features it is a share of the usual distance to the nearest input that differs, the median
    over 1000 samples at most: how far ordinary inputs lie apart depends on the data and on the
    number of features, so that no share of the domain's width would do. With `spare_quarter` the
    quarter of the image in which two differ most does not count, since a patch lies there; the
    other three have to agree. A tolerance of 0 compares the inputs themselves, bit by bit, by two
    64-bit hashes.

    A sample is a suspect unless its label is the most frequent one, alone, among itself and its
    copies; so of two copies with two labels both are. The same holds within a group of the data
    set. Scores are the larger of two shares: of copies, and of the group, that carry another label
    (the sample itself counted among them).

    Attributes:
        tolerance: Root mean square difference, as a share as above (of images: of their contrast;
            of features: of the usual distance to the nearest), 0 or from 0.005 (below, rounding
            decides) to 1.
        side: Fields along each side of a thumbnail, even, 2 to 64.
        spare_quarter: Whether one quarter of an image may differ; without effect on features and
            at a tolerance of 0.
        crowd: Most copies, itself not counted, that a sample may have in its own class, at least 1;
            all of a larger crowd are suspects. None if that is no matter, as in a set of frames.
        groups: Whether a label has to be its group's, where the data set has groups. Switch it
            off where one group rightly holds several classes.
    """

    tolerance: float = 0.1
    side: int = 8
    spare_quarter: bool = True
    crowd: int | None = None
    groups: bool = True

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "before"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.tolerance != 0:
            number("near-duplicates.tolerance", self.tolerance, low=0.005, high=1)
        if whole("near-duplicates.side", self.side, low=2, high=64) % 2:
            raise ParameterError("near-duplicates.side", f"must be even, got {self.side}")
        flag("near-duplicates.spare_quarter", self.spare_quarter)
        flag("near-duplicates.groups", self.groups)
        if self.crowd is not None:
            whole("near-duplicates.crowd", self.crowd, low=1)

    def sanitize(
        self,
        dataset: Dataset,
        rng: Stream,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> Sanitized:
        """Return the set without the samples that contradict their likes."""
        labels, classes = dataset.targets, len(dataset.classes)
        if self.tolerance == 0:
            copies = exact_copies(dataset, rng.child("hash"))
            own, other = votes_within(copies, labels, classes)
        else:
            small = thumbnails(dataset, self.side)
            spare = self.spare_quarter and dataset.domain.is_image
            if dataset.domain.is_image:
                small = small.to(lab.device)
                spread = spread_of(small)
            else:  # gaps may be small beside the values, and not every device knows doubles
                small = small.double()
                spread = typical_gap(small, rng.child("gaps"))
            own, other = near_votes(
                small, labels, classes, self.tolerance, spread, spare_quarter=spare
            )
        suspicious, scores = contradicted(own, other)
        notes = {"copies": int(suspicious.sum()), "crowds": 0, "groups": 0}
        if self.crowd is not None:
            crowded = own - 1 > self.crowd
            notes["crowds"] = int(crowded.sum())
            suspicious |= crowded
        grouped = astray(dataset) if self.groups else None
        if grouped is not None:
            lost, share = grouped
            notes["groups"] = int(lost.sum())
            suspicious, scores = suspicious | lost, torch.maximum(scores, share)
        return removed(
            dataset,
            suspicious,
            scores,
            how=("near-duplicates", self.revision, self),
            notes=notes,
        )
