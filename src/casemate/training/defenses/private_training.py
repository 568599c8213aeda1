"""DP-SGD: no sample weighs more than noise hides, by Opacus (arXiv 1607.00133)."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows
from torch.nn.modules.batchnorm import _BatchNorm

from casemate.errors import UsageError
from casemate.models.architecture import initialize, skeleton
from casemate.random import stream
from casemate.target import Preprocessing
from casemate.threats import Stage
from casemate.training.defended import Phase, Repaired
from casemate.training.defenses.mending import floats
from casemate.training.defenses.own_training import digest_of
from casemate.training.loop import state, steady
from casemate.training.optimizer import optimizer
from casemate.training.passes import Passes
from casemate.training.progress import Epoch
from casemate.training.trained import TrainedModel

if TYPE_CHECKING:
    from torch import nn

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.lab import Lab

__all__ = ["PrivateTraining"]

_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class PrivateTraining:
    """Gradients clipped sample by sample, with Gaussian noise on their sum.

    Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar and Zhang, "Deep learning with differential
    privacy", CCS 2016 (arXiv 1607.00133, algorithm 1), by Opacus (Yousefpour et al., arXiv
    2109.12298), with its Renyi accountant. Each step draws every sample with probability
    batch size / samples, which is what the accountant assumes; a step whose draw is empty is noise.
    Epsilon, in the notes, bounds what one sample inserted or removed can change, poisoned or not.

    Ours: the defaults; preprocessing does not normalize by the data's own statistics, which would
    leak outside the accounting, but maps the domain to [-1, 1]. Label smoothing, augmentation and
    adversarial examples of the recipe are refused, and so is batch normalization, which mixes
    samples. Weights and gradients are float32. How many samples there are counts as known. The
    noise comes from a seeded generator so that results repeat: whoever knows the seed can subtract
    it.

    Attributes:
        noise_multiplier: Deviation of the noise in units of `max_grad_norm`, above 0.
        max_grad_norm: Largest Euclidean norm of a sample's gradient, above 0.
        delta: Probability that epsilon does not hold, above 0 and up to 0.5; to mean anything, far
            below one over the number of samples.
    """

    noise_multiplier: float = 1.1
    max_grad_norm: float = 1.0
    delta: float = 1e-5

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "during"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    measures: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __post_init__(self) -> None:
        floats(self, "noise_multiplier", "max_grad_norm", open_low=True)
        floats(self, "delta", high=0.5, open_low=True)

    def passes(
        self,
        dataset: Dataset,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> tuple[Passes, ...]:
        """Return what gradients of each sample cost beyond a training, about twice that."""
        return (Passes(samples=2 * lab.recipe.epochs * len(dataset)),)

    def check(
        self,
        dataset: Dataset,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> None:
        """Raise `UsageError` if recipe or architecture have what private training lacks."""
        recipe = lab.recipe
        if len(dataset) < _FEWEST:
            raise UsageError(f"{dataset.name} has {len(dataset)} samples; training needs {_FEWEST}")
        for name, given in (
            ("label_smoothing", recipe.label_smoothing > 0),
            ("augmentation", not recipe.augmentation.idle),
            ("adversarial", recipe.adversarial is not None),
        ):
            if given:
                raise UsageError(f"private training cannot be used with recipe.{name}; remove it")
        network = skeleton(lab.architecture, dataset.domain, len(dataset.classes))
        if any(isinstance(m, _BatchNorm) for m in network.modules()):
            raise UsageError(
                "private training cannot be used with batch normalization, which mixes samples; "
                "choose an architecture without it, such as lenet"
            )

    def train(
        self,
        dataset: Dataset,
        rng: Stream,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> Repaired:
        """Return the model trained so; epsilon is in the notes.

        Raises:
            UsageError: If Opacus is not installed, or the recipe or the architecture does not fit.
        """
        accountant = _opacus().accountants.RDPAccountant()
        self.check(dataset, lab)
        module = initialize(
            lab.architecture,
            dataset.domain,
            len(dataset.classes),
            stream(lab.seed, "training/initialization"),
        )
        started = time.perf_counter()
        domain = dataset.domain
        before = Preprocessing(mean=((domain.low + domain.high) / 2,), std=(domain.width / 2,))
        share = min(1.0, lab.recipe.batch_size / len(dataset))
        per_epoch = max(1, round(1 / share))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on hooks, and on orders that are hardly tighter
            history = self._fit(module.to(lab.device), before, dataset, rng, lab)
            accountant.history = [(self.noise_multiplier, share, per_epoch * lab.recipe.epochs)]
            epsilon = float(accountant.get_epsilon(self.delta))
        lab.count(1, len(dataset) * lab.recipe.epochs)
        model = TrainedModel(
            architecture=lab.architecture,
            weights=state(module),
            preprocessing=before,
            domain=domain,
            classes=dataset.classes,
            recipe=lab.recipe,
            seed=lab.seed,
            precision="float32",
            history=history,
            seconds=time.perf_counter() - started,
            digest=digest_of(self, dataset, lab, rng.key),
        )
        return Repaired(model=model, notes={"epsilon": epsilon, "delta": self.delta})

    def _fit(
        self, module: nn.Module, before: Preprocessing, dataset: Dataset, rng: Stream, lab: Lab
    ) -> tuple[Epoch, ...]:
        """Train the module in place."""
        opacus, recipe, device = _opacus(), lab.recipe, torch.device(lab.device)
        share = min(1.0, recipe.batch_size / len(dataset))
        per_epoch = max(1, round(1 / share))
        sampling = rng.child("sampling").torch()
        plain = optimizer(module, recipe)
        wrapped = opacus.GradSampleModule(module.train(), loss_reduction="sum")
        private = opacus.optimizers.DPOptimizer(
            plain,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=share * len(dataset),
            generator=rng.child("noise").torch(device),
        )
        history, labels = [], dataset.targets
        with steady(device, rng.child("dropout").key >> 1):
            for epoch in range(recipe.epochs):
                loss_sum, right, seen = 0.0, 0, 0
                for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                    drawn = torch.rand(len(dataset), generator=sampling) < share
                    chosen = drawn.nonzero().flatten()
                    truth = labels[chosen].to(device)
                    for group in plain.param_groups:
                        group["lr"] = recipe.rate(step, per_epoch * recipe.epochs)
                    private.zero_grad()
                    scores = wrapped(before(dataset.batch(chosen, device=device)))
                    loss = F.cross_entropy(scores, truth, reduction="sum")
                    torch.autograd.backward(loss)
                    private.step()
                    loss_sum += float(loss.detach())
                    right += int((scores.detach().argmax(1) == truth).sum())
                    seen += len(chosen)
                history.append(Epoch(loss=loss_sum / max(1, seen), accuracy=right / max(1, seen)))
        if not all(bool(p.isfinite().all()) for p in module.parameters()):
            raise UsageError(
                "private training diverged: a weight is not finite; lower recipe.learning_rate"
            )
        return tuple(history)


def _opacus() -> Any:
    """Return Opacus.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import opacus  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise UsageError(
            "private training needs Opacus, which is not installed; run pip install casemate[dp]"
        ) from error
    return opacus
