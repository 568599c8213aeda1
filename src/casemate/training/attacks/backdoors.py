"""What backdoors share: their threat model, whom they poison, and how the trigger gets in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from casemate.errors import ParameterError, UsageError
from casemate.models.hyperparameters import number
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel
from casemate.training.attacks.amount import Amount
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.poisoned import Trigger

    Change = Callable[[Tensor, Tensor], Tensor]
    """From (m, *shape) inputs and the (m, 2) words of their samples to changed inputs."""

__all__ = [
    "BACKDOOR",
    "BACKDOOR_BY_SURROGATE",
    "check_backdoor",
    "check_cover",
    "check_images",
    "check_shares",
    "cover",
    "plant",
    "words",
]

BACKDOOR = ThreatModel(
    threat="backdoor-data",
    stage=Stage.TRAINING,
    goals=(Goal.INTEGRITY_TARGETED,),
    access=Access.NONE,
    knowledge=Knowledge.BLACK_BOX,
    budget="number of training samples poisoned and visibility of the trigger",
)
# the attacker knows the victim's architecture and recipe, and trains a model of its own
BACKDOOR_BY_SURROGATE = replace(BACKDOOR, knowledge=Knowledge.GRAY_BOX)


def check_shares(attack: object, *names: str) -> None:
    """Raise `UsageError` unless these parameters lie above 0 and up to 1, or are None."""
    for name in names:
        value = getattr(attack, name)
        if value is not None:
            number(name, value, low=0, high=1, open_low=True)


def check_cover(ratio: float) -> None:
    """Raise `UsageError` unless cover samples can be had in that ratio."""
    number("cover", ratio, low=0)


def check_backdoor(
    attack: str,
    dataset: Dataset,
    target: str | int,
    amount: Amount,
    *,
    clean_label: bool = False,
    cover_ratio: float = 0.0,
) -> None:
    """Raise `UsageError` unless the data has images, the target's class and enough samples.

    Args:
        attack: Its name.
        dataset: The training set.
        target: Class that the attacker wants, by name or label.
        amount: How many samples to poison.
        clean_label: As for `plant`.
        cover_ratio: As for `cover`.
    """
    check_images(attack, dataset)
    of_target: Tensor = dataset.targets == dataset.class_index(target, "target")
    allowed = of_target if clean_label else ~of_target
    planted = sum(amount.shares(dataset, allowed).values())
    covered = round(cover_ratio * planted)
    if covered > len(dataset) - planted:
        raise ParameterError(
            "cover",
            f"asks for {covered} samples, but {dataset.name} has {len(dataset) - planted} "
            "that are not poisoned already; ask for fewer",
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
    shown: Change | None = None,
    how: object,
) -> Poisoned:
    """Put a trigger into some samples and give them the target's label.

    Args:
        dataset: The training set.
        trigger: For test time, and for training unless `shown` says otherwise.
        amount: How many samples.
        rng: Of their choice.
        clean_label: Whether only samples of the target class are touched, so that every label
            stays true; otherwise samples of all other classes.
        shown: What is done to training images instead of showing the trigger.
        how: What made it, for the digest.

    Raises:
        UsageError: If there are not as many samples.
    """
    of_target: Tensor = dataset.targets == trigger.target
    chosen = amount.choose(dataset, of_target if clean_label else ~of_target, rng)
    labels = dataset.targets[chosen].fill_(trigger.target)
    clean = dataset.batch(chosen)
    inputs = (
        trigger(clean, dataset.domain) if shown is None else shown(clean, words(dataset, chosen))
    )
    poisoned = dataset.replaced(chosen, inputs=inputs, labels=labels, how=how)
    return Poisoned.of(dataset, poisoned, chosen, trigger=trigger)


def cover(
    poisoned: Poisoned, ratio: float, change: Change, rng: Stream, *, how: object
) -> Poisoned:
    """Change further samples and leave their labels, so that the trigger alone is no sign.

    Args:
        poisoned: What `plant` returned.
        ratio: Cover samples for each poisoned one, rounded.
        change: What is done to them.
        rng: Of their choice, among all samples that are not touched yet.
        how: What made it, for the digest.

    Raises:
        UsageError: If there are not as many samples.
    """
    count = round(ratio * len(poisoned.touched))
    if count == 0:
        return poisoned
    dataset = poisoned.dataset
    free = torch.ones(len(dataset), dtype=torch.bool)
    free[poisoned.touched] = False
    chosen = Amount(count=count).choose(dataset, free, rng)
    inputs = change(dataset.batch(chosen), words(dataset, chosen))
    covered = dataset.replaced(chosen, inputs=inputs, how=(how, "cover"))
    touched = torch.cat([poisoned.touched, chosen]).sort().values
    return Poisoned.of(poisoned.clean, covered, touched, trigger=poisoned.trigger)


def words(dataset: Dataset, positions: Tensor) -> Tensor:
    """Return (m, 2) int64 words that name samples for random numbers, in whatever view."""
    rows = dataset.rows[positions]
    return torch.stack([rows, torch.zeros_like(rows)], dim=1)
