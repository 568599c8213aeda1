"""What defenses at the training gate are: they clean the data, train otherwise, or mend a model.

What a defense notes goes into the result. Some notes are read as figures and labels:

- "found" and "score" are those of `Repaired`; "found" is None where no backdoor was seen;
- "epsilon" with "delta" is a guarantee of differential privacy;
- labels under "found", "flagged" and "class" are shown by the names of their classes, and of a list
  of mappings with "class" and "suspected" those classes that are suspected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.threats import Stage
    from casemate.training.lab import Lab
    from casemate.training.stored import StoredModel
    from casemate.training.trained import TrainedModel

__all__ = [
    "Foresight",
    "Phase",
    "Repaired",
    "Repairer",
    "Sanitized",
    "Sanitizer",
    "Trainer",
    "TrainingDefense",
]

Phase = Literal["before", "during", "after"]
"""When a defense acts, relative to training."""


class TrainingDefense(Protocol):
    """What all of them declare: frozen dataclasses whose fields are their parameters.

    Attributes:
        stage: `Stage.TRAINING`.
        phase: "before" (a `Sanitizer`), "during" (a `Trainer`) or "after" (a `Repairer`).
        needs_clean: Whether it needs samples that are known to be clean.
        trainings: How many models of its own it trains, for estimates; 0 if it does not say.
        committee: Whether the model is a committee, which has no gradients and which monitors of
            single inputs cannot look into; not if it does not say.
        measures: What it measures besides its cost, as `evidence.MEASURES` names it, so that rules
            on anything else are refused; if it does not say, whatever a defense of its phase can.
        revision: Raised when the same parameters come to mean something else.
    """

    stage: ClassVar[Stage]
    phase: ClassVar[Phase]
    needs_clean: ClassVar[bool]
    revision: ClassVar[int]


class Foresight(Protocol):
    """What a defense may have besides: it refuses what it cannot work with before any training."""

    def check(self, dataset: Dataset, lab: Lab, clean: Dataset | None = None) -> None:
        """Raise `UsageError` for what does not fit, as acting would, but fast.

        Args:
            dataset: The training set as nobody touched it; attacks change samples, not how many.
            lab: Says which model is trained, and how; left as it is.
            clean: Samples known to be clean, if the defense needs them.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Sanitized:
    """A training set as a defense leaves it.

    Attributes:
        dataset: To train on: a view without the suspects, or with their labels mended.
        suspects: (m,) int64 positions, in the set that came in, of samples that were removed or
            relabeled, sorted.
        scores: (n,) float32 how suspicious each sample is, higher is more so; NaN where it was not
            scored. None if the defense ranks nothing.
        scores_by_class: Whether scores compare samples of one class only.
        notes: What else there is to know, such as {"layer": "fc3"}; plain JSON data.
    """

    dataset: Dataset
    suspects: Tensor
    scores: Tensor | None = None
    scores_by_class: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class Sanitizer(TrainingDefense, Protocol):
    """Looks for poison before training."""

    def sanitize(
        self, dataset: Dataset, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Sanitized:
        """Return the data set to train on.

        Args:
            dataset: The training set as it came, poisoned or not; left as it is.
            rng: Of random choices.
            lab: Trains models for the defender.
            clean: Samples known to be clean, if the defense needs them.

        Raises:
            UsageError: If the data do not fit, or clean samples are needed and there are none.
        """


class Trainer(TrainingDefense, Protocol):
    """Trains in another way."""

    def train(
        self, dataset: Dataset, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model trained; arguments as for `Sanitizer.sanitize`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Repaired:
    """A model as a defense leaves it.

    Attributes:
        model: To deploy.
        found: Label that the defense thinks a backdoor leads to; None if it sees none or does not
            look for one.
        score: How sure it is that there is a backdoor, higher is surer; None if it does not say.
        suspects: (m,) int64 positions, in the set that it was trained on, of samples that the
            defense set apart, sorted; None if it sets none apart.
        notes: What else there is to know; plain JSON data.
    """

    model: StoredModel
    found: int | None = None
    score: float | None = None
    suspects: Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Repairer(TrainingDefense, Protocol):
    """Mends a trained model."""

    def repair(
        self, model: TrainedModel, rng: Stream, lab: Lab, clean: Dataset | None = None
    ) -> Repaired:
        """Return the model mended.

        Args:
            model: As it was trained; left as it is.
            rng: Of random choices.
            lab: Says how the model was trained, and where.
            clean: Samples known to be clean, if the defense needs them.

        Raises:
            UsageError: If clean samples are needed and there are none.
        """
