"""What the campaign engine costs: planning 10,000 trials, and the overhead of running one.

Run with `python -m benchmarks.campaign`; the exit code is 1 if a limit is broken.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.command import finish
from benchmarks.rows import Row
from casemate.campaign.assemble import Replay
from casemate.campaign.document import parse_document
from casemate.campaign.events import TrialStarted
from casemate.campaign.gates import Gates
from casemate.campaign.model_entry import make_entry
from casemate.campaign.plan import make_plan
from casemate.campaign.run import run_plan
from casemate.campaign.spec import read_spec
from casemate.campaign.store import Store
from casemate.inference.evaluate import evaluate

if TYPE_CHECKING:
    from casemate.campaign.events import Event
    from casemate.campaign.plan import Plan
    from casemate.target import Target

_PLAN_LIMIT = 2.0  # seconds for 10,000 trials
_OVERHEAD_LIMIT = 5.0  # milliseconds a trial
_HELP_LIMIT = 0.5
_REPEATS = 5
_TRIALS = 20

_HEAD = """
casemate: 1
name: benchmark
data: {source: digits}
model: {architecture: lenet, recipe: {epochs: 1}}
defaults: {samples: 100}
"""


def main() -> int:
    """Measure, print the rows, and return the exit code."""
    # the engine is not parallel, and idle threads would blur the difference
    torch.set_num_threads(1)
    return finish(
        __doc__,
        {
            "plan": lambda: [_planning()],
            "overhead": lambda: [_overhead()],
            "help": lambda: [_help()],
        },
    )


def _planning() -> Row:
    """Time from the text of a specification to the plan of 10,000 trials, imports apart."""
    epsilons = ", ".join(f"{i}/400" for i in range(1, 101))
    steps = ", ".join(str(i) for i in range(1, 101))
    text = _HEAD + f"trials: [{{attack: {{name: pgd, epsilon: [{epsilons}], steps: [{steps}]}}}}]"
    seconds = []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), write=True) as store:
        _plan(text, Gates(base_dir=Path()), store)  # imports what a plan needs
        for _ in range(_REPEATS):
            started = time.perf_counter()
            plan = _plan(text, Gates(base_dir=Path()), store)
            seconds.append(time.perf_counter() - started)
    assert len(plan.trials) == 10_000  # noqa: S101, PLR2004 - what is timed is what was promised
    return Row(
        name="plan of 10,000 trials", value=statistics.median(seconds), unit="s", limit=_PLAN_LIMIT
    )


def _overhead() -> Row:
    """Time from the start of one trial to that of the next, over the same attack called directly.

    The direct call comes right before each trial, so that both meet the same load of the machine.
    """
    epsilons = ", ".join(f"{i}/200" for i in range(1, _TRIALS + 2))
    text = _HEAD + f"trials: [{{attack: {{name: bim, epsilon: [{epsilons}]}}}}]"
    differences = []
    for _ in range(_REPEATS):
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder), write=True) as store:
            gates = Gates(base_dir=Path())
            plan = _plan(text, gates, store)
            first = plan.trials[0].trial
            target = gates.target(first, store, lambda _event: None)
            make_entry(first, gates, store, lambda _event: None)
            watch = _Watch(plan, gates, target)
            run_plan(plan, store, gates, replay=Replay(source="benchmark.yaml"), listeners=[watch])
            differences += watch.differences[1:]  # the first warms up
    return Row(
        name="engine overhead a trial",
        value=1000 * statistics.median(differences),
        unit="ms",
        limit=_OVERHEAD_LIMIT,
    )


class _Watch:
    """A listener that times each trial against the attack that it runs."""

    def __init__(self, plan: Plan, gates: Gates, target: Target) -> None:
        self._trials = {p.trial.number: p.trial for p in plan.trials}
        self._gates = gates
        self._target = target
        self._started: float | None = None
        self._bare = 0.0
        self.differences: list[float] = []

    def __call__(self, event: Event) -> None:
        if not isinstance(event, TrialStarted):
            return
        now = time.perf_counter()
        if self._started is not None:
            self.differences.append(now - self._started - self._bare)
        trial = self._trials[event.number]
        setting, samples = self._gates.setting(trial), self._gates.samples(trial)
        started = time.perf_counter()
        evaluate(setting, self._target, samples)
        self._started = time.perf_counter()
        self._bare = self._started - started


def _help() -> Row:
    """Wall time of `casemate --help` over that of `import torch`, interleaved."""
    commands = {
        "help": [sys.executable, "-m", "casemate.cli.main", "--help"],
        "torch": [sys.executable, "-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_REPEATS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    ratio = statistics.median(seconds["help"]) / statistics.median(seconds["torch"])
    return Row(
        name="casemate --help over import torch",
        value=ratio,
        unit="x",
        limit=_HELP_LIMIT,
        peer="import torch",
    )


def _plan(text: str, gates: Gates, store: Store) -> Plan:
    spec, problems = read_spec(parse_document(text, "benchmark.yaml"), base_dir=Path())
    return make_plan(spec, problems, gates, store)


if __name__ == "__main__":
    sys.exit(main())
