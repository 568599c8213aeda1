"""Runs a campaign again and again, each time killed with SIGKILL at a random moment.

Run by test_kill_9.py as a process of its own: the processes that it kills are forked from it, so
that torch is imported once. Prints how many runs were killed before their end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

# not used here: the processes that are forked need not import them then
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo  # optimizers ask for it

import casemate.inference.evaluate
import casemate.models.load
import casemate.training.loop  # noqa: F401
from casemate.campaign.assemble import Replay
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.store import Store
from casemate.cli.session import open_session

_KILLS = 10


def run(spec: str, folder: Path) -> int:
    """Start a campaign in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = whole_campaign(spec, folder)
        finally:
            os._exit(code)
    return child


def whole_campaign(spec: str, folder: Path) -> int:
    """Run a campaign; return its exit code."""
    torch.set_num_threads(1)
    session = open_session(spec, size=None, device="cpu", batch_size=64)
    with Store(folder, write=True) as store:
        plan = make_plan(session.spec, session.problems, session.gates, store)
        return run_plan(plan, store, session.gates, replay=Replay(source=spec)).exit_code


def finish(child: int) -> None:
    """Wait for a run that must end by itself with exit code 0."""
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def kill_and_resume(spec: str, folder: Path, seed: int) -> int:
    """Fill folder/whole in one run and folder/killed in many; return how many were killed."""
    started = time.monotonic()
    finish(run(spec, folder / "whole"))
    whole = time.monotonic() - started
    moments = random.Random(seed)
    killed = 0
    for i in range(_KILLS):
        # later runs have less to do and get longer, so that some die in each phase
        longest = whole * (0.2 + 0.6 * i / _KILLS)
        child = run(spec, folder / "killed")
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    finish(run(spec, folder / "killed"))
    return killed


if __name__ == "__main__":
    sys.exit(print(kill_and_resume(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201 - read by the test
