from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from shelves import FolderShelf

from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import CasemateError, UsageError
from casemate.models.mlp import MLP
from casemate.training import modelfile
from casemate.training.crew import cores, share_out
from casemate.training.loop import train
from casemate.training.recipe import Recipe


def model(seed):
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(
        name="made",
        inputs=rng.random((16, 3)).astype(np.float32),
        labels=np.arange(16) % 2,
        classes=("a", "b"),
        domain=Domain(shape=(3,)),
    )
    recipe = Recipe(epochs=1, batch_size=8, precision="float32")
    return train(MLP(hidden=(4,)), recipe, data, seed=seed)


@dataclass(frozen=True)
class Chore:
    """A task for tests; `how` says what becomes of it."""

    number: int
    how: str = "done"
    wait: float = 0.0

    @property
    def words(self):
        return f"doing chore {self.number}"

    def run(self, shelf, progress):
        time.sleep(self.wait)
        progress(0.5)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "refused":
            raise UsageError(f"{self.number} is not for us")
        if self.how == "broken":
            raise ValueError("no such\nluck")
        found = {"pid": os.getpid(), "threads": torch.get_num_threads()}
        if self.how == "shelf":
            path = shelf.find("tensor")
            found["there"] = path is not None
            if path is None:
                made = torch.full((2,), float(self.number))
                path = shelf.keep("tensor", lambda p: modelfile.write(p, {"x": made}, {}))
            found["value"] = modelfile.read(path)[0]["x"].tolist()
        return model(self.number), found


def collect(tasks, workers=2, **options):
    done = {}
    share_out(
        tasks, workers=workers, done=lambda n, m, found: done.update({n: (m, found)}), **options
    )
    return done


def test_tasks_are_done_by_single_thread_processes_of_their_own():
    shares = []
    done = collect(
        [Chore(i) for i in range(5)], progress=lambda n, share: shares.append((n, share))
    )
    assert sorted(done) == list(range(5))
    for number, (made, found) in done.items():
        assert made.digest == model(number).digest
        assert found["threads"] == 1
        assert found["pid"] != os.getpid()
    assert len({found["pid"] for _, found in done.values()}) <= 2
    assert {n for n, share in shares if share == 1.0} == set(range(5))


def test_a_task_is_taken_when_a_worker_is_free_for_it():
    log = []

    def tasks():
        for i in range(6):
            log.append(("taken", i))
            yield Chore(i)

    share_out(tasks(), workers=2, done=lambda n, *_: log.append(("done", n)))
    for position, (what, number) in enumerate(log):
        if what == "taken":
            finished = sum(w == "done" for w, _ in log[:position])
            assert number - finished < 2


def test_what_one_task_leaves_on_the_shelf_the_next_one_finds(tmp_path):
    shelf = FolderShelf(tmp_path)
    done = collect([Chore(7, "shelf"), Chore(8, "shelf")], workers=1, shelf=shelf)
    assert [done[n][1]["there"] for n in range(2)] == [False, True]
    assert [done[n][1]["value"] for n in range(2)] == [[7.0, 7.0], [7.0, 7.0]]
    assert shelf.kept == ["tensor"]


def test_without_a_shelf_nothing_is_found_and_a_file_lasts_as_long_as_the_work():
    done = collect([Chore(7, "shelf"), Chore(8, "shelf")], workers=1)
    assert [done[n][1]["there"] for n in range(2)] == [False, False]
    assert [done[n][1]["value"] for n in range(2)] == [[7.0, 7.0], [8.0, 8.0]]


def test_errors_are_raised_or_told():
    tasks = [Chore(0, "refused"), Chore(1, "broken"), Chore(2)]
    told = {}
    done = collect(tasks, failed=lambda n, error: told.update({n: error}))
    assert list(done) == [2]
    assert isinstance(told[0], UsageError)
    assert str(told[0]) == "0 is not for us"
    assert str(told[1]) == "doing chore 1 failed: ValueError: no such luck"
    with pytest.raises(UsageError, match="0 is not for us"):
        collect(tasks, workers=1)


def test_a_worker_that_dies_ends_it_and_leaves_no_process_behind():
    before = children()
    with pytest.raises(CasemateError, match=r"was doing chore 0 died \(exit code -9\)"):
        collect([Chore(0, "killed"), Chore(1, wait=60)])
    for _ in range(50):
        if children() <= before:
            break
        time.sleep(0.1)
    assert children() <= before


def children():
    """Processes that serve this one; those of the server that forks them are its children."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"forkserver" in words and parent != os.getpid():
            found.add(folder.name)
    return found


def test_the_environment_is_as_it_was():
    before = dict(os.environ)
    collect([Chore(0), Chore(1)])
    assert dict(os.environ) == before
    assert cores() >= 1
