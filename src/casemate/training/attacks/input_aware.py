"""Input-aware backdoor: a trigger of its own for each image (Nguyen and Tran, arXiv 2010.08138)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.errors import UsageError
from casemate.models.hyperparameters import number, whole
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import (
    BACKDOOR_BY_SURROGATE,
    check_backdoor,
    check_cover,
    check_images,
    check_shares,
    cover,
    plant,
)
from casemate.training.attacks.input_aware_networks import FEWEST, Networks
from casemate.training.attacks.input_aware_trigger import Generator
from casemate.training.passes import FORWARD, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.lab import Lab
    from casemate.training.poisoned import Poisoned

__all__ = ["InputAware"]


@dataclass(frozen=True, kw_only=True)
class InputAware:
    """A generated pattern in some images, another for each, and cover samples.

    Nguyen and Tran, "Input-aware dynamic backdoor attack", NeurIPS 2020 (arXiv 2010.08138), with
    the parameters of the authors' code. First a network learns masks that differ between images and
    cover few pixels; then another learns patterns together with a classifier: images with their own
    pattern are to be the target (attack mode), images with that of another image stay what they are
    (cross-trigger mode), and patterns are to differ as images do (diversity loss). Their attacker
    controls the victim's training, for 25 and 600 epochs.

    Ours: fewer epochs, and the attacker has the data only. The classifier is a surrogate, trained
    before and then trained on together with the patterns, on ordinary batches without augmentation;
    afterwards the networks are frozen and poison the data once. Cover samples show the pattern of
    another image and keep their labels. Learning rates fall tenfold after two thirds of each phase.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: How many samples, of all classes but the target.
        cover: Cover samples for each poisoned one, at least 0.
        density: Value of a mask's pixel up to which it costs nothing, in (0, 1].
        diversity: Weight of the diversity loss, at least 0.
        sparsity: Weight of the mean excess over `density`, at least 0.
        share: Of a batch that is attacked, and again of it that is crossed, while patterns are
            trained, in (0, 0.5].
        mask_epochs: Passes over the data for the masks, at least 1.
        epochs: Passes over the data for the patterns, at least 1.
        batch_size: Samples a step, at least 4.
        learning_rate: Of all three networks, above 0.
        width: Channels of the networks' first level, at least 1.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=10.0))
    cover: float = 1.0
    density: float = 0.032
    diversity: float = 1.0
    sparsity: float = 100.0
    share: float = 0.1
    mask_epochs: int = 5
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.01
    width: int = 16

    threat: ClassVar[ThreatModel] = BACKDOOR_BY_SURROGATE
    revision: ClassVar[int] = 3
    evades: ClassVar[frozenset[str]] = frozenset({"fine-pruning", "neural-cleanse", "strip"})
    surrogate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_cover(self.cover)
        check_shares(self, "density")
        number("share", self.share, low=0, high=0.5, open_low=True)
        number("learning_rate", self.learning_rate, low=0, open_low=True)
        for name in ("diversity", "sparsity"):
            number(name, getattr(self, name), low=0)
        for name in ("mask_epochs", "epochs", "width"):
            whole(name, getattr(self, name), low=1)
        whole("batch_size", self.batch_size, low=FEWEST)

    trainings: ClassVar[int] = 1

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_images("input-aware", dataset)
        if len(dataset) < FEWEST:
            raise UsageError(
                f"{dataset.name} has {len(dataset)} samples, but input-aware needs at least "
                f"{FEWEST}; give more"
            )
        check_backdoor("input-aware", dataset, self.target, self.amount, cover_ratio=self.cover)

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - an attacker has none
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: the networks' training, and the surrogate's with them."""
        channels, count = dataset.domain.shape[0], len(dataset)
        ordinary = self.epochs * count
        attacked = 2 * self.share * ordinary
        masks = 2 * self.mask_epochs * count + FORWARD * attacked
        return (
            Passes(samples=ordinary),
            Passes(samples=masks, network=Generator, arguments=(channels, 1, self.width)),
            Passes(samples=attacked, network=Generator, arguments=(channels, channels, self.width)),
        )

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with generated patterns in some images."""
        self.check(dataset)
        target = dataset.class_index(self.target)
        trigger = Networks(self, dataset, target, rng, lab).trigger()
        poisoned = plant(dataset, trigger, self.amount, rng.child("samples"), how="input-aware")
        draws = rng.child("partners").torch()

        def crossed(x: Tensor, words: Tensor) -> Tensor:
            other = torch.randint(len(dataset), (len(x),), generator=draws)
            other += dataset.rows[other] == words[:, 0]  # never its own pattern
            return trigger.shown(x, dataset.batch(other % len(dataset)), dataset.domain)

        return cover(poisoned, self.cover, crossed, rng.child("cover"), how="input-aware")
