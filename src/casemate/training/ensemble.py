"""Many models at once, by whatever is fastest on the device.

On a CPU that is one single-thread process a core: stacking small networks with `torch.func.vmap`
was slower than training them one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from casemate.errors import UsageError
from casemate.models.architecture import title
from casemate.training.crew import cores, share_out
from casemate.training.loop import train
from casemate.training.trained import TrainedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture
    from casemate.training.lab import Shelf
    from casemate.training.progress import Progress
    from casemate.training.recipe import Recipe
    from casemate.training.stored import StoredModel

__all__ = ["Job", "train_many"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One model to train.

    Attributes:
        architecture: Of the model.
        recipe: How.
        data: On what; jobs on views of one data set share its memory.
        seed: Of everything random.
    """

    architecture: Architecture
    recipe: Recipe
    data: Dataset
    seed: int = 0

    @property
    def work(self) -> int:
        """Samples that go through the training."""
        return len(self.data) * self.recipe.epochs

    @property
    def words(self) -> str:
        """What it does, for messages."""
        return f"training {title(self.architecture)} on {self.data.name}"

    def run(self, shelf: Shelf, progress: Callable[[float], object]) -> tuple[TrainedModel, None]:  # noqa: ARG002 - as `Task`
        """Return the model."""
        return self.train("cpu", progress), None

    def train(
        self, device: torch.device | str, progress: Callable[[float], object]
    ) -> TrainedModel:
        """Return the model, trained in this process."""

        def tell(p: Progress) -> None:
            progress(p.step / p.steps)

        return train(
            self.architecture,
            self.recipe,
            self.data,
            seed=self.seed,
            device=device,
            progress=tell,
        )


def train_many(
    jobs: Sequence[Job],
    *,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    done: Callable[[int, TrainedModel], object] | None = None,
    progress: Callable[[float], object] | None = None,
) -> list[TrainedModel]:
    """Return a model for each job, in their order.

    What comes out equals training one after another up to the order in which floating-point numbers
    are summed. A script that calls this on a CPU has to keep its own code under
    `if __name__ == "__main__":`, as with every use of Python's processes.

    Args:
        jobs: What to train.
        device: Where; on anything but a CPU models are trained one after another.
        workers: Processes; one a core if omitted, and none but this one for a single job.
        done: Called with a job's number and its model as soon as there is one.
        progress: Called a few times a second with the share of all work that is done.

    Raises:
        UsageError: As `train`; models that are done by then went to `done`.
        CasemateError: If a worker dies.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}, but it must be at least 1")
    count = min(workers or cores(), len(jobs))
    report = _Share([job.work for job in jobs], progress)
    models: dict[int, TrainedModel] = {}

    def take(number: int, model: StoredModel, _: Any = None) -> None:
        assert isinstance(model, TrainedModel)  # noqa: S101 - jobs make no others
        models[number] = model
        if done is not None:
            done(number, model)

    # the longest first, so that no core waits long for the last
    order = sorted(range(len(jobs)), key=lambda i: -jobs[i].work)
    if count <= 1 or torch.device(device).type != "cpu":
        for i, job in enumerate(jobs):
            take(i, job.train(device, lambda share, i=i: report(i, share)))  # type: ignore[misc]  # share is a float
    else:
        share_out(
            (jobs[i] for i in order),
            workers=count,
            done=lambda n, model, _: take(order[n], model),
            progress=lambda n, share: report(order[n], share),
        )
    return [models[i] for i in range(len(jobs))]


class _Share:
    """Turns how far each job is into how far all are."""

    def __init__(self, work: Sequence[int], tell: Callable[[float], object] | None) -> None:
        self._work = work
        self._done = [0.0] * len(work)
        self._tell = tell

    def __call__(self, number: int, share: float) -> None:
        self._done[number] = share
        if self._tell is not None:
            total = sum(self._work)
            self._tell(sum(w * d for w, d in zip(self._work, self._done, strict=True)) / total)
