"""Many poisoned models at once, beside a plain loop, and a backdoor beside a per-sample pipeline.

Run with `python -m benchmarks.ensemble`, with the official archives in `$CASEMATE_DATA`.

1. 16 LeNets on MNIST, each poisoned by BadNets with a seed of its own, 3 epochs: `train_many`
   against a loop as one writes it, one model after another with all threads. Throughput and
   accuracy, in float32 as the loop and in the number format that the recipe takes by itself on
   this machine. Memory is read in a run of its own, because reading it takes time: that of all
   processes together beyond a process that has imported everything.
2. One BadNets cell on GTSRB, 1 % of the images, one epoch: `train` against training as
   BackdoorBench does it, in the same network with the same batch size: pictures that PIL resizes,
   pads and crops one by one in a DataLoader with two workers, in float32. `train` runs in float32
   as well, and in the number format that the recipe takes by itself.

Every run is a process of its own; runs are interleaved, and the ratios are of medians. The exit
code is 1 if a limit is broken.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.command import finish
from benchmarks.rows import Row
from casemate.errors import UsageError

_ROUNDS = int(os.environ.get("CASEMATE_BENCH_ROUNDS", "5"))
_SPEEDUP, _PIPELINE = 1.8, 5.0
_POINTS = 0.15
_SPARE = 200.0  # MiB beside the data


def main() -> int:
    """Measure, print the rows, and return the exit code."""
    return finish(
        __doc__, {"models": _models, "memory": lambda: [_memory(_run("memory"))], "cell": _cells}
    )


def _models() -> list[Row]:
    runs = _rounds("loop", "many", "auto")
    return [
        *_many(runs["loop"], runs["many"], "float32"),
        *_many(runs["loop"], runs["auto"], "as the recipe decides")[1:],
    ]


def _cells() -> list[Row]:
    runs = _rounds("pipeline", "train", "train-auto")
    return [
        *_cell(runs["pipeline"], runs["train"], "float32"),
        *_cell(runs["pipeline"], runs["train-auto"], "as the recipe decides")[1:],
    ]


def _rounds(*kinds: str) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each kind, which take turns."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for _ in range(_ROUNDS):
        for kind in kinds:
            runs[kind].append(_run(kind))
    return runs


def _run(kind: str) -> dict[str, Any]:
    if not os.environ.get("CASEMATE_DATA"):
        raise UsageError("set CASEMATE_DATA to the folder of the archives: a download is not timed")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ensemble_runs", kind],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _many(loop: list[dict[str, Any]], many: list[dict[str, Any]], how: str) -> list[Row]:
    plain, ours = (statistics.median(r["seconds"] for r in runs) for runs in (loop, many))
    accuracy = [statistics.fmean(r["accuracy"] for r in runs) for runs in (loop, many)]
    return [
        Row(name="16 LeNets on MNIST, a plain loop", value=plain, unit="s"),
        Row(name=f"16 LeNets on MNIST, train_many, {how}", value=ours, unit="s"),
        Row(
            name=f"16 LeNets, throughput of train_many, {how}",
            value=plain / ours,
            unit="x",
            limit=_SPEEDUP,
            better="higher",
            peer="plain loop",
        ),
        Row(
            name=f"16 LeNets, mean accuracy lost to the loop, {how}",
            value=100 * (accuracy[0] - accuracy[1]),
            unit="points",
            limit=_POINTS,
            peer="plain loop",
        ),
    ]


def _memory(run: dict[str, Any]) -> Row:
    return Row(
        name="16 LeNets, memory beside the data",
        value=run["memory"] - run["data"],
        unit="MiB",
        limit=_SPARE,
    )


def _cell(pipeline: list[dict[str, Any]], train: list[dict[str, Any]], how: str) -> list[Row]:
    theirs, ours = (statistics.median(r["seconds"] for r in runs) for runs in (pipeline, train))
    return [
        Row(name="BadNets on GTSRB, an epoch, per-sample PIL pipeline", value=theirs, unit="s"),
        Row(name=f"BadNets on GTSRB, an epoch, train, {how}", value=ours, unit="s"),
        Row(
            name=f"BadNets on GTSRB, throughput of train, {how}",
            value=theirs / ours,
            unit="x",
            limit=_PIPELINE,
            better="higher",
            peer="per-sample PIL pipeline",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
