"""The same attack in each library: L-infinity PGD from one random start, with equal steps.

Each contender is a function from images and labels to attacked images. All get the same module,
whose inputs lie in [0, 1], the same batches, and as many threads. A library runs as its
documentation shows it; nothing is switched off that a user would have on, and progress bars are
off everywhere. Libraries are imported where they run, so that one's memory is not another's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from casemate.data.dataset import Dataset

__all__ = ["CONTENDERS", "PACKAGES", "PEERS", "Task"]

PEERS = ("torchattacks", "foolbox", "art")
PACKAGES = {"torchattacks": "torchattacks", "foolbox": "foolbox", "art": "art"}
"""What a peer is imported as."""

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every contender does.

    Attributes:
        steps: Gradient steps.
        epsilon: Radius of the L-infinity ball, images being in [0, 1].
        step_size: In the same units.
        batch_size: Images at a time.
        device: "cpu" or "cuda".
    """

    steps: int = 40
    epsilon: float = 8 / 255
    step_size: float = 2 / 255
    batch_size: int = 128
    device: str = "cpu"


def _casemate(
    module: nn.Module, data: Dataset, task: Task, *, early_stop: bool
) -> Callable[[], Tensor]:
    from casemate.inference.attacks.pgd import PGD  # noqa: PLC0415 - see above
    from casemate.inference.engine import craft  # noqa: PLC0415 - likewise
    from casemate.target import TorchTarget  # noqa: PLC0415 - likewise

    target = TorchTarget(
        module, domain=data.domain, classes=data.classes, digest="benchmark", device=task.device
    )
    attack = PGD(epsilon=task.epsilon, steps=task.steps, step_size=task.step_size)

    def run() -> Tensor:
        return craft(
            attack,
            target,
            data,
            seed=_SEED,
            batch_size=task.batch_size,
            early_stop=early_stop,
        ).adversarial

    return run


def _casemate_all_steps(module: nn.Module, data: Dataset, task: Task) -> Callable[[], Tensor]:
    return _casemate(module, data, task, early_stop=False)


def _casemate_dropping(module: nn.Module, data: Dataset, task: Task) -> Callable[[], Tensor]:
    return _casemate(module, data, task, early_stop=True)


def _torchattacks(module: nn.Module, data: Dataset, task: Task) -> Callable[[], Tensor]:
    import torchattacks  # noqa: PLC0415 - see above

    attack = torchattacks.PGD(module, eps=task.epsilon, alpha=task.step_size, steps=task.steps)
    batches = _batches(data, task)
    return lambda: torch.cat([attack(x, y).cpu() for x, y in batches])


def _foolbox(module: nn.Module, data: Dataset, task: Task) -> Callable[[], Tensor]:
    import foolbox  # noqa: PLC0415 - see above

    model = foolbox.PyTorchModel(module, bounds=(0, 1), device=task.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=task.step_size, steps=task.steps)
    batches = _batches(data, task)

    def run() -> Tensor:
        found = [attack(model, x, y, epsilons=task.epsilon)[1].cpu() for x, y in batches]
        return torch.cat(found)

    return run


def _art(module: nn.Module, data: Dataset, task: Task) -> Callable[[], Tensor]:
    from art.attacks.evasion import ProjectedGradientDescent  # noqa: PLC0415 - see above
    from art.estimators.classification import PyTorchClassifier  # noqa: PLC0415 - likewise

    classifier = PyTorchClassifier(
        model=module,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=data.domain.shape,
        nb_classes=len(data.classes),
        clip_values=(0, 1),
        device_type="gpu" if task.device == "cuda" else "cpu",
    )
    attack = ProjectedGradientDescent(
        classifier,
        norm=math.inf,
        eps=task.epsilon,
        eps_step=task.step_size,
        max_iter=task.steps,
        num_random_init=1,
        batch_size=task.batch_size,
        verbose=False,
    )
    inputs, labels = data.batch(slice(None)).numpy(), data.targets.numpy()
    return lambda: torch.from_numpy(attack.generate(inputs, labels))


def _batches(data: Dataset, task: Task) -> list[tuple[Tensor, Tensor]]:
    inputs = torch.split(data.batch(slice(None), device=task.device), task.batch_size)
    labels = torch.split(data.targets.to(task.device), task.batch_size)
    return list(zip(inputs, labels, strict=True))


CONTENDERS: dict[str, Callable[[nn.Module, Dataset, Task], Callable[[], Tensor]]] = {
    "casemate": _casemate_all_steps,
    "casemate, dropping": _casemate_dropping,
    "torchattacks": _torchattacks,
    "foolbox": _foolbox,
    "art": _art,
}
"""By name: from the module, the images and the task to a run that returns (n, *shape) points."""
