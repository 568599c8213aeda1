"""One run of one way to train, for `benchmarks.ensemble`: prints its figures as JSON.

The plain loop and the pipeline are written as their users write them, with nothing of ours but the
networks, the poison and the learning rate of each step.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from casemate.data.gtsrb import GTSRB
from casemate.data.mnist import MNIST
from casemate.models.accuracy import accuracy
from casemate.models.architecture import initialize
from casemate.models.lenet import LeNet
from casemate.models.vgg import VGG
from casemate.random import stream
from casemate.target import TorchTarget
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.badnets import BadNets
from casemate.training.augmentation import Augmentation
from casemate.training.ensemble import Job, train_many
from casemate.training.loop import train
from casemate.training.normalization import normalization
from casemate.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.training.precision import Precision

MODELS, EPOCHS = 16, 3
RECIPE = Recipe(epochs=EPOCHS, precision="float32")
CELL = Recipe(epochs=1, augmentation=Augmentation(shift=4))
SIZE = 32
MIB = 1 << 20


def main() -> None:
    """Run what the first argument names and print the figures."""
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "loop": loop,
        "many": lambda: many("float32"),
        "auto": lambda: many("auto"),
        "memory": held,
        "pipeline": pipeline,
        "train": lambda: cell("float32"),
        "train-auto": lambda: cell("auto"),
    }
    print(json.dumps(kinds[sys.argv[1]]()))


def poisoned_digits() -> tuple[Any, list[Any]]:
    """Return MNIST's test split and 16 poisoned training sets that share its memory."""
    clean = MNIST().load("train")
    attack = BadNets(amount=Amount(percent=1.0))
    sets = [attack.poison(clean, stream(seed, "benchmark")).dataset for seed in range(MODELS)]
    return MNIST().load("test"), sets


def many(precision: Precision) -> dict[str, float]:
    """Train all at once."""
    test, sets = poisoned_digits()
    jobs = orders(sets, precision)
    started = time.perf_counter()
    models = train_many(jobs)
    seconds = time.perf_counter() - started
    rates = [accuracy(m.target(), test).value or 0.0 for m in models]
    return {"seconds": seconds, "accuracy": statistics.fmean(rates)}


def held() -> dict[str, float]:
    """Train all at once and look how much memory that takes."""
    bare = memory()
    _, sets = poisoned_digits()
    jobs = orders(sets, "float32")
    peak = Peak()
    train_many(jobs)
    peak.stop()
    data = (sets[0].inputs.nbytes + sets[0].labels.nbytes) / MIB
    return {"memory": peak.most - bare, "data": data}


def orders(sets: list[Any], precision: Precision) -> list[Job]:
    """Return a job for each training set."""
    recipe = replace(RECIPE, precision=precision)
    return [Job(architecture=LeNet(), recipe=recipe, data=s, seed=i) for i, s in enumerate(sets)]


def loop() -> dict[str, float]:
    """Train one after another, as a plain script does: tensors in memory, all threads."""
    test, sets = poisoned_digits()
    found = normalization(sets[0])
    rates = []
    seconds = 0.0
    for seed, data in enumerate(sets):
        x, y = found(data.batch(slice(None))), data.targets
        started = time.perf_counter()
        module = initialize(LeNet(), data.domain, len(data.classes), stream(seed, "benchmark"))
        optimizer = torch.optim.SGD(
            module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        size = RECIPE.batch_size
        per_epoch = len(x) // size
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(EPOCHS):
            order = torch.randperm(len(x), generator=generator)
            for i in range(per_epoch):
                chosen = order[i * size : (i + 1) * size]
                _step(module, optimizer, x[chosen], y[chosen], epoch * per_epoch + i, per_epoch)
        seconds += time.perf_counter() - started
        module.eval()
        target = TorchTarget(
            module,
            domain=test.domain,
            classes=test.classes,
            digest="loop",
            preprocessing=found,
        )
        rates.append(accuracy(target, test).value or 0.0)
    return {"seconds": seconds, "accuracy": statistics.fmean(rates)}


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    step: int,
    per_epoch: int,
) -> None:
    optimizer.param_groups[0]["lr"] = RECIPE.rate(step, per_epoch * EPOCHS)
    optimizer.zero_grad()
    torch.autograd.backward(F.cross_entropy(module(x), y))
    optimizer.step()


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """Images as PIL opens them, changed one by one: resized, padded, cropped, normalized."""

    def __init__(self, data: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        pixels = data.batch(slice(None)).mul(255).round().to(torch.uint8)
        self.pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]
        self.labels = data.targets.tolist()
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        picture = self.pictures[i].resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        padded = Image.new("RGB", (SIZE + 8, SIZE + 8))
        padded.paste(picture, (4, 4))
        left, top = (int(v) for v in torch.randint(0, 9, (2,)))
        cut = padded.crop((left, top, left + SIZE, top + SIZE))
        x = torch.frombuffer(bytearray(cut.tobytes()), dtype=torch.uint8)
        x = x.view(SIZE, SIZE, 3).permute(2, 0, 1).float().div(255)
        return (x - self.mean) / self.std, self.labels[i]


def pipeline() -> dict[str, float]:
    """Train one epoch as BackdoorBench does: PIL for each sample, a DataLoader, float32."""
    data = signs()
    found = normalization(data)
    pictures = Pictures(data, found.mean, found.std)
    module = initialize(VGG(), data.domain, len(data.classes), stream(0, "benchmark"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batches = DataLoader(
        pictures, batch_size=CELL.batch_size, shuffle=True, drop_last=True, num_workers=2
    )
    started = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(module(x), y))
        optimizer.step()
    return {"seconds": time.perf_counter() - started}


def cell(precision: Precision) -> dict[str, float]:
    """Train the same epoch with `train`."""
    data = signs()
    started = time.perf_counter()
    train(VGG(), replace(CELL, precision=precision), data, seed=0)
    return {"seconds": time.perf_counter() - started}


def signs() -> Any:
    """Return GTSRB's training split with BadNets in 1 % of it."""
    attack = BadNets(amount=Amount(percent=1.0))
    return attack.poison(GTSRB(size=SIZE).load("train"), stream(0, "benchmark")).dataset


def memory() -> float:
    """Return what this process and all below it hold, in MiB; shared pages are counted once."""
    return sum(_held(pid) for pid in _tree(Path("/proc/self").resolve().name)) / MIB


def _tree(root: str) -> list[str]:
    found = [root]
    for pid in found:  # which grows
        with suppress(OSError):  # it may have ended
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += task.read_text(encoding="ascii").split()
    return found


def _held(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0  # it ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


class Peak:
    """Looks every fifth of a second how much all processes hold, until it is stopped."""

    def __init__(self) -> None:
        self.most = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.most = max(self.most, memory())


if __name__ == "__main__":
    main()
