"""The training loop: deterministic for a seed, and silent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.errors import ParameterError, UsageError
from casemate.models.architecture import initialize
from casemate.random import stream
from casemate.training.channels_last import gradients_channels_last
from casemate.training.descent import Descent
from casemate.training.normalization import normalization
from casemate.training.precision import resolve
from casemate.training.progress import Epoch, Progress
from casemate.training.trained import TrainedModel, training_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture
    from casemate.target import Preprocessing
    from casemate.training.recipe import Recipe

__all__ = ["Loss", "Seen", "check_data", "state", "steady", "train", "tune"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Returns the scalar that training lowers, of (b, classes) float32 scores and (b,) int64 labels."""

Seen = Callable[[Tensor, Tensor], object]
"""Told of each step the (b,) int64 positions of its samples and (b,) bool which were read right."""

_PACE = 0.2  # seconds between two reports of progress


def train(
    architecture: Architecture,
    recipe: Recipe,
    data: Dataset,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    loss: Loss | None = None,
    seen: Seen | None = None,
    after: Callable[[nn.Module], None] | None = None,
) -> TrainedModel:
    """Return the architecture trained on a data set.

    The same arguments give the same bits on one machine with the same number of threads. All
    random numbers come from streams of `seed`; the state of torch's global generators is the same
    before and after. Batches come straight from the stored inputs.

    Args:
        architecture: What to train.
        recipe: How.
        data: Training samples, at least two.
        seed: Of initial weights, order, augmentation and dropout.
        device: Where to train.
        progress: Called a few times a second with where training stands; what it raises ends
            the training.
        loss: Instead of the recipe's cross-entropy and its label smoothing. The digest does not
            tell; whoever gives a loss gives the model a digest of its own.
        seen: Told of each step which samples were in it and which of them the model read right.
        after: Called with the network after each step, to put weights in their place. The digest
            does not tell of it either.

    Raises:
        UsageError: If the data does not fit the architecture or the recipe, or if the loss stops
            being finite.
    """
    check_data(recipe, data)
    place = torch.device(device)
    precision = resolve(recipe.precision, place)
    preprocessing = normalization(data)
    module = initialize(
        architecture, data.domain, len(data.classes), stream(seed, "training/initialization")
    ).to(place)
    if recipe.channels_last and data.domain.is_image:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    run = _Run(
        module,
        recipe,
        data,
        preprocessing,
        seed=seed,
        precision=precision,
        tell=progress or _ignore,
        loss=loss,
        seen=seen,
        after=None if after is None else lambda: after(module),
    )
    started = time.perf_counter()
    history = run.all_epochs()
    return TrainedModel(
        architecture=architecture,
        weights=state(module),
        preprocessing=preprocessing,
        domain=data.domain,
        classes=data.classes,
        recipe=recipe,
        seed=seed,
        precision=precision,
        history=history,
        seconds=time.perf_counter() - started,
        digest=training_key(architecture, recipe, data, seed=seed, device=place),
    )


def check_data(recipe: Recipe, data: Dataset) -> None:
    """Raise `UsageError` if the data does not fit the recipe, as `train` does, but fast."""
    if len(data) < 2:  # noqa: PLR2004 - batch normalization has no variance over one sample
        raise UsageError(f"{data.name} has {len(data)} samples; training needs at least 2")
    if not recipe.augmentation.idle and not data.domain.is_image:
        raise ParameterError(
            "recipe.augmentation", f"is for images, but {data.name} holds features; remove it"
        )


def tune(
    module: nn.Module,
    recipe: Recipe,
    data: Dataset,
    preprocessing: Preprocessing,
    *,
    seed: int,
    progress: Callable[[Progress], None] | None = None,
    after: Callable[[], None] | None = None,
    rate: str = "learning_rate",
    loss: Loss | None = None,
) -> tuple[Epoch, ...]:
    """Train a module in place, from the weights that it has; return the history.

    Args:
        module: On the device where it is trained; left in training mode.
        recipe: How.
        data: Training samples, at least two.
        preprocessing: Stands before the module.
        seed: Of order, augmentation and dropout.
        progress: As for `train`.
        after: Called after each step, to put weights in their place.
        rate: What the user calls the learning rate, for messages.
        loss: As for `train`.

    Raises:
        UsageError: If the loss stops being finite.
    """
    run = _Run(
        module,
        recipe,
        data,
        preprocessing,
        seed=seed,
        precision=resolve(recipe.precision, next(module.parameters()).device),
        tell=progress or _ignore,
        rate=rate,
        loss=loss,
        after=after,
    )
    return run.all_epochs()


def state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state dict: contiguous tensors on the CPU."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


@contextmanager
def steady(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the default generators, which dropout draws from, and put them back on leaving.

    On a GPU only deterministic algorithms are used inside.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if not cuda:
            yield
            return
        torch.cuda.manual_seed(seed)
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            yield


class _Run:
    """One training under way; the module is trained in place."""

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        data: Dataset,
        preprocessing: Preprocessing,
        *,
        seed: int,
        precision: str,
        tell: Callable[[Progress], None],
        rate: str = "recipe.learning_rate",
        loss: Loss | None = None,
        seen: Seen | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.data = data
        self.preprocessing = preprocessing
        self.precision = precision
        self.tell = tell
        self.rate = rate
        self.loss = loss or partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
        self.seen = seen
        self.after = after
        self.device = next(module.parameters()).device
        self.descent = Descent(module, recipe)
        self.labels = data.targets
        self.batch = min(recipe.batch_size, len(data))
        self.per_epoch = len(data) // self.batch
        self.steps = self.per_epoch * recipe.epochs
        self.shuffling = stream(seed, "training/shuffle").torch()
        self.augmenting = stream(seed, "training/augmentation").torch()
        self.attacking = stream(seed, "training/adversarial").torch()
        self.dropping = stream(seed, "training/dropout").key >> 1
        self.started = time.perf_counter()

    def all_epochs(self) -> tuple[Epoch, ...]:
        """Train; return the history."""
        with steady(self.device, self.dropping), gradients_channels_last(self.module):
            self.module.train()
            history = tuple(
                self.one_epoch(epoch, torch.randperm(len(self.data), generator=self.shuffling))
                for epoch in range(self.recipe.epochs)
            )
        # the last step's weights never met a loss
        if not all(bool(p.isfinite().all()) for p in self.module.parameters()):
            raise self.diverged("the weights are not finite")
        return history

    def one_epoch(self, epoch: int, order: Tensor) -> Epoch:
        """Train on the samples in this order; return what the epoch came to."""
        loss_sum = torch.zeros((), device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        reported = 0.0
        for i in range(self.per_epoch):
            step = epoch * self.per_epoch + i
            loss, hits = self.one_step(order[i * self.batch : (i + 1) * self.batch], step)
            loss_sum += loss
            right += hits
            now = time.perf_counter()
            last = i + 1 == self.per_epoch
            # reading the loss waits for a GPU, so it is read only as often as it is told
            if last or now - reported >= _PACE:
                reported = now
                so_far = Epoch(
                    loss=float(loss_sum) / (i + 1), accuracy=int(right) / ((i + 1) * self.batch)
                )
                self.report(epoch, step + 1, so_far)
        return so_far

    def one_step(self, positions: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Take one step; return its loss and how many samples were predicted right."""
        labels = self.labels[positions].to(self.device)
        x = self.data.batch(positions, device=self.device)
        x = self.recipe.augmentation(x, self.data.domain, self.augmenting)
        if self.recipe.adversarial is not None:
            # evaluation mode: samples do not interact, and the running statistics of batch
            # normalization see only the points that are trained on
            self.module.eval()
            x = self.recipe.adversarial(
                x,
                # a sum, not a mean, so that a sample's gradient does not shrink with the batch
                lambda p: F.cross_entropy(self.scores(p), labels, reduction="sum"),
                self.data.domain,
                self.attacking,
            )
            self.module.train()
        scores = self.scores(x)
        loss = self.loss(scores, labels)
        self.descent.forget()
        torch.autograd.backward(loss)
        self.descent.step(self.recipe.rate(step, self.steps))
        if self.after is not None:
            self.after()
        right = scores.detach().argmax(1) == labels
        if self.seen is not None:
            self.seen(positions, right)
        return loss.detach(), right.sum()

    def scores(self, x: Tensor) -> Tensor:
        """Return the float32 scores of points in the domain."""
        x = self.preprocessing(x)
        if self.recipe.channels_last and self.data.domain.is_image:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            scores: Tensor = self.module(x)
        return scores.float()

    def report(self, epoch: int, done: int, so_far: Epoch) -> None:
        """Tell where training stands, or end it if it diverged."""
        if not math.isfinite(so_far.loss):
            raise self.diverged(f"the loss is {so_far.loss} in epoch {epoch + 1}")
        seconds = time.perf_counter() - self.started
        self.tell(
            Progress(
                epoch=epoch + 1,
                epochs=self.recipe.epochs,
                step=done,
                steps=self.steps,
                loss=so_far.loss,
                accuracy=so_far.accuracy,
                seconds=seconds,
                seconds_left=seconds / done * (self.steps - done),
            )
        )

    def diverged(self, what: str) -> UsageError:
        """Return the error that ends a training which came to nothing."""
        return UsageError(
            f"training diverged: {what}; lower {self.rate} (now {self.recipe.learning_rate:g})"
        )


def _ignore(_: Progress) -> None:
    """Nobody listens."""
