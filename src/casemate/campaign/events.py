"""What a campaign tells its listeners while it runs: progress bar, log, anything that prints.

A listener is a callable that takes an event; one that does not know an event ignores it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casemate.campaign.record import CampaignRecord, TrialRecord

__all__ = [
    "CampaignFinished",
    "CampaignStarted",
    "Event",
    "Listener",
    "ModelMeasuring",
    "ModelReady",
    "ModelTraining",
    "TrialFailed",
    "TrialFinished",
    "TrialProgressed",
    "TrialRepeated",
    "TrialStarted",
]


@dataclass(frozen=True, kw_only=True)
class CampaignStarted:
    """The campaign begins.

    Attributes:
        name: Of the campaign; untrusted text.
        trials: How many trials it has.
        cached: How many of them need not run.
        seconds: Estimate for the others, or None if there was no probe.
    """

    name: str
    trials: int
    cached: int
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelTraining:
    """A model is being trained.

    Attributes:
        model: In a few words.
        done: Steps done.
        total: Steps in all.
        note: What the training says of itself: "epoch 3 of 10, loss 0.12".
    """

    model: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelMeasuring:
    """A model's accuracy is being measured on the whole test split.

    Attributes:
        model: In a few words.
        done: Samples done.
        total: Samples in all.
    """

    model: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class ModelReady:
    """A model is trained or loaded.

    Attributes:
        model: In a few words.
        seconds: It took.
        cached: Whether it came from the store.
    """

    model: str
    seconds: float
    cached: bool


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial begins.

    Attributes:
        number: Of the trial.
        key: Of its evidence.
        title: The trial in a few words; untrusted text.
    """

    number: int
    key: str
    title: str


@dataclass(frozen=True, kw_only=True)
class TrialProgressed:
    """A trial got on.

    Attributes:
        number: Of the trial.
        done: Work done.
        total: Work in all.
    """

    number: int
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial that ran has evidence, which is in the store now; the policy has not judged it yet.

    Attributes:
        record: All of it.
    """

    record: TrialRecord


@dataclass(frozen=True, kw_only=True)
class TrialRepeated:
    """A trial that had evidence was computed again; the store keeps the evidence that it had.

    Attributes:
        number: Of the trial.
        differences: One sentence for each thing that came out otherwise; none if the evidence is
            the same bit for bit.
        made: Where the stored evidence comes from.
    """

    number: int
    differences: tuple[str, ...]
    made: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """A trial raised; the campaign goes on.

    Attributes:
        record: With the error and its traceback.
    """

    record: TrialRecord


@dataclass(frozen=True, kw_only=True)
class CampaignFinished:
    """All trials are done.

    Attributes:
        record: The whole.
    """

    record: CampaignRecord


Event = (
    CampaignStarted
    | ModelTraining
    | ModelMeasuring
    | ModelReady
    | TrialStarted
    | TrialProgressed
    | TrialFinished
    | TrialRepeated
    | TrialFailed
    | CampaignFinished
)
Listener = Callable[[Event], None]
