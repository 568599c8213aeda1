"""A contender in a process of its own: loads once, then runs whenever it is told to.

So no contender meets another's allocator, imports or caches, its peak memory is its own, and runs
can still be interleaved: while one works the others wait.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmarks.contenders import CONTENDERS, Task
from benchmarks.memory import Watch
from benchmarks.subjects import images, network

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    import numpy as np

__all__ = ["Outcome", "Setup", "Worker"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all contenders are given.

    Attributes:
        subject: File of the model.
        images: How many test images.
        frozen: Whether the model comes without parameter gradients and with channels last.
        threads: Of torch on the CPU.
        task: The attack.
    """

    subject: Path
    images: int
    frozen: bool
    threads: int
    task: Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one run gave.

    Attributes:
        seconds: Wall time.
        adversarial: (n, *shape) float32.
        peak: Most bytes held in any run so far, and how many more than before the first; None
            where that cannot be known.
    """

    seconds: float
    adversarial: np.ndarray
    peak: tuple[int, int] | None


class Worker:
    """A started contender; close it after use."""

    def __init__(self, name: str, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, setup), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()  # it has loaded

    def run(self) -> Outcome:
        """Run once and wait for the end."""
        self._ours.send("run")
        outcome = self._receive()
        if not isinstance(outcome, Outcome):
            raise TypeError(f"a worker sent {type(outcome).__name__}")
        return outcome

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join()

    def _receive(self) -> object:
        try:
            return self._ours.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"a contender ended with exit code {self._process.exitcode}; its error is above"
            ) from None


def _serve(pipe: Connection, name: str, setup: Setup) -> None:
    torch.set_num_threads(setup.threads)
    module = network(setup.subject, device=setup.task.device, frozen=setup.frozen)
    run = CONTENDERS[name](module, images(setup.images), setup.task)
    watch = Watch(setup.task.device)
    pipe.send("ready")
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        _wait(setup.task.device)
        started = time.perf_counter()
        adversarial = run()
        _wait(setup.task.device)
        seconds = time.perf_counter() - started
        peak = watch.peak()
        pipe.send(Outcome(seconds=seconds, adversarial=adversarial.numpy(), peak=peak))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
