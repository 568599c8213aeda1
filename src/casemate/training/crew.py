"""Worker processes that make models side by side: one single-thread process a core.

Small networks gain little by a second thread, so that is the fastest a CPU can do. Data lie in
shared memory once; a poisoned set travels as its patch. Workers are forked from a server that has
imported what training needs and done nothing else, so they start in milliseconds, share its pages,
and inherit neither threads nor locks.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import multiprocessing

from casemate.errors import CasemateError
from casemate.training.stored import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

    from casemate.training.lab import Shelf
    from casemate.training.stored import StoredModel

__all__ = ["Task", "cores", "share_out"]

_PACE = 0.5  # seconds between two reports of progress
_PRELOADED = ("casemate.training.crew", "casemate.training.making")
_MEMORY = {
    # large pages, and memory that stays with the process: a step of a small network allocates
    # and frees a few megabytes a hundred times a second
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=1073741824"
}


class Task(Protocol):
    """What a worker does; it travels there, so all of it can be pickled."""

    @property
    def words(self) -> str:
        """What it does, for messages: "training LeNet on mnist/train"."""

    def run(self, shelf: Shelf, progress: Callable[[float], object]) -> tuple[StoredModel, Any]:
        """Return a model, and what there is to say of it; that can be pickled.

        Args:
            shelf: The caller's, where files of other tasks lie as well.
            progress: Told the share that is done.
        """


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def share_out(
    tasks: Iterable[Task],
    *,
    workers: int,
    done: Callable[[int, StoredModel, Any], object],
    failed: Callable[[int, CasemateError], object] | None = None,
    progress: Callable[[int, float], object] | None = None,
    shelf: Shelf | None = None,
) -> None:
    """Have tasks done by worker processes.

    Args:
        tasks: Taken one by one, each when a worker is free.
        workers: Processes.
        done: Called with a task's number, from 0, and what it returned.
        failed: Called with a task's number and its error; without, the first error is raised.
        progress: Called with a task's number and the share of it that is done.
        shelf: Where workers find what others made, and leave theirs.

    Raises:
        CasemateError: If a worker dies, or as `failed` says.
    """
    with tempfile.TemporaryDirectory(prefix="casemate-") as folder:
        crew = _Crew(iter(tasks), done, failed or _raise, progress or _nobody, shelf)
        crew.work(workers, folder)


class _Crew:
    def __init__(
        self,
        tasks: Iterator[Task],
        done: Callable[[int, StoredModel, Any], object],
        failed: Callable[[int, CasemateError], object],
        progress: Callable[[int, float], object],
        shelf: Shelf | None,
    ) -> None:
        self.tasks = enumerate(tasks)
        self.done = done
        self.failed = failed
        self.progress = progress
        self.shelf = shelf
        self.members: dict[Connection, tuple[Any, int, str]] = {}

    def work(self, workers: int, folder: str) -> None:
        """Do all tasks."""
        context = _context()
        try:
            for _ in range(workers):
                here, there = context.Pipe()
                with _environment(_MEMORY):
                    process = context.Process(target=_serve, args=(there, folder), daemon=True)
                    process.start()
                there.close()
                self.members[here] = (process, -1, "")
                self.give(here)
            while self.members:
                for ready in wait(list(self.members)):
                    self.hear(ready)  # type: ignore[arg-type]  # only connections wait here
        finally:
            for connection, (process, _, _) in self.members.items():
                process.kill()
                process.join()
                connection.close()

    def give(self, connection: Connection) -> None:
        """Send the next task to a worker, or nothing more."""
        number, task = next(self.tasks, (-1, None))
        process = self.members[connection][0]
        self.members[connection] = (process, number, "" if task is None else task.words)
        connection.send(None if task is None else (number, task))

    def hear(self, connection: Connection) -> None:
        """Take in what a worker says."""
        process, number, words = self.members[connection]
        try:
            kind, *content = connection.recv()
        except (EOFError, ConnectionResetError):
            del self.members[connection]
            connection.close()
            process.join()
            if number >= 0:
                raise CasemateError(
                    f"the process that was {words} died (exit code {process.exitcode}), perhaps "
                    "for want of memory; use fewer workers"
                ) from None
            return
        if kind == "share":
            self.progress(number, *content)
        elif kind == "find":
            connection.send(self.shelf and self.shelf.find(*content))
        elif kind == "keep":
            connection.send(self.kept(*content))
        elif kind == "error":
            self.failed(number, *content)
            self.give(connection)
        else:
            path, found = content
            model = load_model(path)
            path.unlink()
            self.progress(number, 1.0)
            self.done(number, model, found)
            self.give(connection)

    def kept(self, name: str, path: Path) -> Path:
        """Take in a file that a worker wrote; return where it lies now."""
        if self.shelf is None:
            return path
        return self.shelf.keep(name, lambda to: shutil.move(path, to))


class _Line:
    """The caller's shelf as a worker reaches it."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or None."""
        self.connection.send(("find", name))
        path: Path | None = self.connection.recv()
        return path

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Keep what is written to the path that `write` is given."""
        path = self.folder / f"{os.getpid()}-{name}"
        write(path)
        self.connection.send(("keep", name, path))
        kept: Path = self.connection.recv()
        return kept


@cache
def _context() -> Any:
    """Return the start method: a server that forks, where there is one."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_PRELOADED))
        return context
    return multiprocessing.get_context("spawn")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set what is not set in the environment, for processes that are started inside."""
    added = {k: v for k, v in values.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _serve(connection: Connection, folder: str) -> None:
    """Do what comes down the line until nothing more does; the life of a worker."""
    gc.freeze()  # looking for garbage among what was imported would copy its pages
    torch.set_num_threads(1)
    while (order := connection.recv()) is not None:
        number, task = order
        last = 0.0

        def tell(share: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > _PACE:
                last = now
                # fails, and ends this process, where nobody listens any more
                connection.send(("share", share))

        try:
            model, found = task.run(_Line(connection, Path(folder)), tell)
            path = Path(folder) / f"{number}.safetensors"
            model.save(path)
            connection.send(("done", path, found))
        except BrokenPipeError:
            return
        except CasemateError as error:
            connection.send(("error", error))
        except Exception as error:  # noqa: BLE001 - of a third party's code
            words = " ".join(f"{type(error).__name__}: {error}".split())
            connection.send(("error", CasemateError(f"{task.words} failed: {words}")))


def _raise(_: int, error: CasemateError) -> None:
    raise error


def _nobody(*_: object) -> None:
    """Nobody listens."""
