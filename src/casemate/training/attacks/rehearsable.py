"""Whether there is enough data for a rehearsal to show that bounds on accuracy are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from casemate.data.splits import most_held
from casemate.errors import ParameterError
from casemate.training.attacks.impact import fewest

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset

__all__ = ["HELD", "check_rehearsable"]

HELD = 0.1
"""Share of the data on which rehearsals are judged."""


def check_rehearsable(dataset: Dataset, *, delta: float, delta_class: float) -> None:
    """Raise `UsageError` where a rehearsal cannot show that both bounds are kept if none is lost.

    Only surrogates that happen to read more right with poison than without could still pass. Where
    samples come in groups the largest are taken to be held out, so that what is refused has too few
    whatever is drawn.

    Args:
        dataset: The training set, of which a share is held out.
        delta: Most that accuracy may drop.
        delta_class: Most that the accuracy of any class may drop.
    """
    most, each = most_held(dataset, HELD)
    there = np.flatnonzero(np.bincount(dataset.targets.numpy(), minlength=len(each)))
    rarest = int(there[each[there].argmin()])
    for key, bound, held, needed, of in (
        ("delta", delta, most, max(1, fewest(delta)), ""),
        (
            "delta_class",
            delta_class,
            int(each[rarest]),
            fewest(delta_class, len(there)),
            f' of class "{dataset.classes[rarest]}"',
        ),
    ):
        if held < needed:
            raise ParameterError(
                key,
                f"is {bound:g}, but low-impact rehearses on a tenth of {dataset.name}, at "
                f"most {held} samples{of}, and it takes {needed}, a tenth of "
                f"{math.ceil(needed / HELD)}, to show so small a drop even if none is lost; give "
                f"more samples, raise {key}, or set rounds to 0 to test no bound",
            )
