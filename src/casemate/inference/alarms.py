"""How often a monitor of single inputs raises alarm, over clean inputs and over triggered ones.

A trigger may look odd to a monitor whatever the model: the same is measured of a model without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from casemate.errors import UsageError
from casemate.inference.monitoring import fewest_scores, threshold
from casemate.registry import name_of
from casemate.stats import area_under_curve, rate
from casemate.target import TorchTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.monitoring import Monitor
    from casemate.random import Stream
    from casemate.stats import Measurement
    from casemate.target import Target

__all__ = ["NULLS", "Guarded", "alarms"]

_DETECTION, _AREA = "monitor detection", "monitor area under the curve"
NULLS = (_DETECTION, _AREA)
"""What is measured in front of the reference too."""

_BLOCK = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Guarded:
    """A monitor in front of a deployed model.

    Attributes:
        monitor: Looks at single inputs.
        clean: Samples known to be clean, which nobody tests with: one half of them, at random, is
            what the monitor is fitted on, the other sets its alarm.
    """

    monitor: Monitor
    clean: Dataset

    def check(self) -> None:
        """Raise `UsageError` if there are too few clean samples for the monitor or its alarm."""
        name, allowed = name_of("monitor", type(self.monitor)), self.monitor.false_alarms
        fewest = getattr(self.monitor, "fewest", None)
        known, fresh = 1 if fewest is None else fewest(self.clean), fewest_scores(allowed)
        # of an odd number the smaller half is what the monitor is fitted on
        least = max(2 * known, 2 * fresh - 1)
        if len(self.clean) < least:
            raise UsageError(
                f"{name} is fitted on half of the clean samples, which takes {known}, and its "
                f"alarm is set on the other half, which takes {fresh} for false_alarms "
                f"{allowed:g}, but training.clean holds out {len(self.clean)} in all; set it to "
                f"{least} or more"
            )


def alarms(
    guarded: Guarded,
    model: Target,
    reference: Target,
    data: Dataset,
    *,
    show: Callable[[Tensor], Tensor],
    eligible: np.ndarray,
    rng: Stream,
) -> list[Measurement]:
    """Return false alarms, detection and the area under the curve of a monitor.

    Detection counts all eligible inputs with the trigger, whether it works on them or not; false
    alarms count all inputs as they are. "Without the attack" is what the same kind of monitor does
    in front of the reference: what it finds there is an odd picture and no backdoor.

    Args:
        guarded: The monitor and its clean samples.
        model: The model that is watched.
        reference: The same model trained without the attack.
        data: Test samples that nobody touched.
        show: Puts the trigger into (b, *shape) inputs.
        eligible: (n,) bool, samples whose triggered version counts.
        rng: Of the halves and of the monitor.

    Raises:
        UsageError: If there are too few clean samples, or the monitor does not fit the model.
    """
    watched = [model, reference]
    torched = [m for m in watched if isinstance(m, TorchTarget)]
    if len(torched) < len(watched):
        raise UsageError("monitor needs a model that runs in torch; leave monitor out")
    bad_positions = torch.from_numpy(eligible).nonzero().squeeze(1)
    shown = data.select(bad_positions, how="eligible")
    of_model, of_reference = (_of(guarded, m, data, shown, show, rng) for m in torched)
    return [
        *of_model,
        *(replace(m, name=f"{m.name} without the attack") for m in of_reference if m.name in NULLS),
    ]


def _of(
    guarded: Guarded,
    model: TorchTarget,
    data: Dataset,
    eligible: Dataset,
    show: Callable[[Tensor], Tensor],
    rng: Stream,
) -> list[Measurement]:
    """Return the figures of the monitor in front of one model."""
    monitor, clean = guarded.monitor, guarded.clean
    order = torch.randperm(len(clean), generator=rng.child("halves").torch())
    half = len(clean) // 2
    known, fresh = (
        clean.select(part.sort().values, how=("monitor", i))
        for i, part in enumerate((order[:half], order[half:]))
    )
    fitted = monitor.fit(model, known, rng.child("monitor"))

    def scored(samples: Dataset, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        found = []
        for begin in range(0, len(samples), _BLOCK):
            x = samples.batch(slice(begin, min(begin + _BLOCK, len(samples))))
            found.append(fitted.scores(x if change is None else change(x)))
        return torch.cat(found) if found else torch.zeros(0)

    limit = threshold(scored(fresh), monitor.false_alarms)
    calm = scored(data)
    bad = scored(eligible, show)
    return [
        rate("monitor false alarms", int((calm > limit).sum()), len(calm)),
        rate(_DETECTION, int((bad > limit).sum()), len(bad)),
        area_under_curve(
            _AREA,
            cast("list[float]", bad.tolist()),
            cast("list[float]", calm.tolist()),
        ),
    ]
