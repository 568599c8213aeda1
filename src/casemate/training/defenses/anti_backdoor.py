"""Anti-backdoor learning: what is learned fastest is set apart and unlearned (arXiv 2110.11571)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import UsageError
from casemate.models.hyperparameters import whole
from casemate.threats import Stage
from casemate.training.augmentation import Augmentation
from casemate.training.defended import Phase, Repaired
from casemate.training.defenses.mending import floats
from casemate.training.defenses.own_training import digest_of
from casemate.training.defenses.removal import highest
from casemate.training.loop import state, train, tune

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.target import Target
    from casemate.training.lab import Lab

__all__ = ["AntiBackdoorLearning", "local_gradient_ascent"]

_FEWEST = 2
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class AntiBackdoorLearning:
    """Training that holds the loss at a level, isolates what falls below it, and unlearns that.

    Li, Lyu, Koren, Lyu, Li and Ma, "Anti-backdoor learning: training clean models on poisoned
    data", NeurIPS 2021 (arXiv 2110.11571). First the network is trained with local gradient ascent,
    sign(loss - gamma) times the loss, at a constant learning rate and without augmentation; the
    samples of lowest loss are isolated. Then it is trained further on the rest, and last it ascends
    the loss of those isolated, by SGD without augmentation.

    As in the authors' code the sign is that of a batch's mean loss; the paper writes it for each
    sample. Flooding, the other way in their code, has the same gradient. Ours: the epochs of
    isolation and of further training share the recipe's (10 and 60 in the authors' code, 20 and 60
    in BackdoorBench); isolation takes the recipe's learning rate; further training follows the
    recipe's own schedule from its start, with its augmentation, label smoothing and adversarial
    examples; unlearning has momentum and weight decay of the recipe, and its epochs, as many as in
    BackdoorBench and four times those of the authors' code, come on top.

    The ascent has no bound: where what was isolated is not poison, it can unlearn a class. Where
    the loss of what was isolated has fallen to nothing, it has no gradient and unlearns nothing.
    The paper isolates 1 % of data of which 10 % are poisoned; rarer poison may not be the easiest
    to learn, and a recipe of a few epochs may isolate before the backdoor is learned at all: its
    samples are then those of highest loss.

    Attributes:
        isolation: Share of the recipe's epochs that isolate, above 0 and below 1; rounded, at
            least one epoch, and at least one is left.
        gamma: Where the loss is held while isolating, in nats, at least 0.
        isolated: Share of the samples that is isolated, above 0 and up to 0.5; at least two.
        unlearning_epochs: Passes over the isolated samples, at least 1.
        unlearning_rate: Learning rate of the ascent, above 0.
    """

    isolation: float = 0.25
    gamma: float = 0.5
    isolated: float = 0.01
    unlearning_epochs: int = 20
    unlearning_rate: float = 5e-4

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "during"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ("precision of removal", "recall of removal")

    def __post_init__(self) -> None:
        floats(self, "isolation", high=0.99, open_low=True)
        floats(self, "gamma")
        floats(self, "isolated", high=0.5, open_low=True)
        whole("unlearning_epochs", self.unlearning_epochs, low=1, high=100_000)
        floats(self, "unlearning_rate", open_low=True)

    def check(
        self,
        dataset: Dataset,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> None:
        """Raise `UsageError` if there are too few samples or epochs for all stages."""
        self._epochs(lab.recipe.epochs)
        self._count(dataset)

    def train(
        self,
        dataset: Dataset,
        rng: Stream,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> Repaired:
        """Return the model after isolation, further training and unlearning."""
        first, count = self._epochs(lab.recipe.epochs), self._count(dataset)
        plain = replace(
            lab.recipe,
            schedule="constant",
            augmentation=Augmentation(),
            adversarial=None,
        )
        model = train(
            lab.architecture,
            replace(plain, epochs=first),
            dataset,
            seed=lab.seed,
            device=lab.device,
            progress=lab.progress,
            loss=lambda scores, labels: local_gradient_ascent(scores, labels, self.gamma),
        )
        target = model.target(lab.device)
        chosen = highest(-losses(target, dataset), count)
        suspects, rest = chosen.nonzero().flatten(), (~chosen).nonzero().flatten()
        module = target.module.requires_grad_(requires_grad=True)
        module.train()
        history = tune(
            module,
            replace(lab.recipe, epochs=lab.recipe.epochs - first),
            dataset.select(rest, how="not isolated"),
            model.preprocessing,
            seed=rng.child("rest").key,
            progress=lab.progress,
            rate="recipe.learning_rate",
        )
        tune(
            module,
            replace(
                plain,
                epochs=self.unlearning_epochs,
                optimizer="sgd",
                learning_rate=self.unlearning_rate,
            ),
            dataset.select(suspects, how="isolated"),
            model.preprocessing,
            seed=rng.child("isolated").key,
            progress=lab.progress,
            rate="unlearning_rate",
            loss=lambda scores, labels: -F.cross_entropy(scores, labels),
        )
        lab.count(
            1,
            len(dataset) * first
            + len(rest) * (lab.recipe.epochs - first)
            + len(suspects) * self.unlearning_epochs,
        )
        return Repaired(
            model=replace(
                model,
                weights=state(module),
                recipe=lab.recipe,
                history=(*model.history, *history),
                digest=digest_of(self, dataset, lab, rng.key),
            ),
            suspects=suspects,
            notes={"isolated": len(suspects), "isolation epochs": first},
        )

    def _count(self, dataset: Dataset) -> int:
        """Return how many samples are isolated."""
        count = max(_FEWEST, int(self.isolated * len(dataset)))
        if len(dataset) - count < _FEWEST:
            raise UsageError(
                f"{dataset.name} has {len(dataset)} samples; anti-backdoor learning needs at least "
                f"{2 * _FEWEST}"
            )
        return count

    def _epochs(self, epochs: int) -> int:
        """Return how many of the recipe's epochs isolate."""
        if epochs < _FEWEST:
            raise UsageError(
                f"recipe.epochs is {epochs}, but anti-backdoor learning needs at least {_FEWEST}: "
                "one to isolate and one to train further"
            )
        return min(max(1, round(self.isolation * epochs)), epochs - 1)


def local_gradient_ascent(scores: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return the mean loss of a batch, negative where it is below gamma."""
    loss = F.cross_entropy(scores, labels)
    return (loss - gamma).sign() * loss


def losses(target: Target, dataset: Dataset) -> Tensor:
    """Return (n,) float32 cross-entropy of each sample, on the CPU."""
    labels, out = dataset.targets, torch.zeros(len(dataset))
    with torch.no_grad():
        for begin in range(0, len(dataset), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            scores = target.scores(dataset.batch(part, device=target.device)).cpu()
            out[part] = F.cross_entropy(scores, labels[part], reduction="none")
    return out
