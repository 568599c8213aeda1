"""What backdoors share: their threat model, whom they poison, and how the trigger gets in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.errors import UsageError
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.attacks.amount import Amount
    from casemate.training.poisoned import Trigger

__all__ = ["BACKDOOR", "check_images", "plant"]

BACKDOOR = ThreatModel(
    threat="backdoor-data",
    stage=Stage.TRAINING,
    goals=(Goal.INTEGRITY_TARGETED,),
    access=Access.NONE,
    knowledge=Knowledge.BLACK_BOX,
    budget="number of training samples poisoned and visibility of the trigger",
)


def check_images(attack: str, dataset: Dataset) -> None:
    """Raise `UsageError` where inputs are no images."""
    if not dataset.domain.is_image:
        raise UsageError(
            f"{attack} needs images, but {dataset.name} holds features of shape "
            f"{dataset.domain.shape}; choose another attack"
        )


def plant(
    dataset: Dataset,
    trigger: Trigger,
    amount: Amount,
    rng: Stream,
    *,
    clean_label: bool = False,
    how: object,
) -> Poisoned:
    """Put a trigger into some samples and give them the target's label.

    Args:
        dataset: The training set.
        trigger: As it is shown in training.
        amount: How many samples.
        rng: Of their choice.
        clean_label: Whether only samples of the target class are touched, so that every label
            stays true; otherwise samples of all other classes.
        how: What made it, for the digest.

    Raises:
        UsageError: If there are not as many samples.
    """
    of_target: Tensor = dataset.targets == trigger.target
    chosen = amount.choose(dataset, of_target if clean_label else ~of_target, rng)
    labels = dataset.targets[chosen].fill_(trigger.target)
    inputs = trigger(dataset.batch(chosen), dataset.domain)
    poisoned = dataset.replaced(chosen, inputs=inputs, labels=labels, how=how)
    return Poisoned(clean=dataset, dataset=poisoned, touched=chosen, trigger=trigger)
