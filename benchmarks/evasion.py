"""The evasion engine beside torchattacks, Foolbox and ART: time, success and peak memory.

Run with `python -m benchmarks.evasion` in the environment that `make bench-env` makes; the data is
GTSRB, from `$CASEMATE_DATA` or downloaded. The first run trains the two models under attack, a VGG
and the same VGG trained adversarially, and keeps them in the cache folder.

Every contender runs L-infinity PGD with 40 steps of 2/255 in a ball of 8/255 from one random start,
on the same weights, images, batches and threads, in a process of its own. Casemate runs twice: all
steps for every image, and with dropping, which ends an image's attack once it fools the model.
After a round that is not counted the contenders take turns, in an order that rotates. One verifier
judges the points of all. The exit code is 1 if a limit is broken, 2 if something is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.command import conclude
from benchmarks.comparison import Result, compare
from benchmarks.contenders import CONTENDERS, PACKAGES, Task
from benchmarks.rows import Row
from benchmarks.subjects import SUBJECTS, images, network, prepare
from benchmarks.verifier import judge
from benchmarks.worker import Setup, Worker
from casemate.errors import UsageError


def main() -> int:
    """Measure, print the rows, and return the exit code."""
    arguments = _arguments()
    try:
        rows = _measure(arguments)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if arguments.quick:  # what is promised is promised for all steps
        rows = [replace(row, limit=None) for row in rows]
    return conclude(rows, markdown=arguments.markdown, json=arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    add("--markdown", action="store_true", help="print a Markdown table")
    add("--device", choices=["cpu", "cuda"], help="default: the CPU, and a GPU if there is one")
    add("--images", type=_positive, default=512, help="test images (default: 512)")
    add("--repeats", type=_positive, default=5, help="rounds that count (default: 5)")
    add("--threads", type=_positive, default=torch.get_num_threads(), help="of torch on the CPU")
    add("--quick", action="store_true", help="128 images, 10 steps, 3 rounds, no limits")
    add(
        "--frozen",
        action="store_true",
        help="hand the model over without parameter gradients and with channels last, which "
        "spares peers what they compute for nothing",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.repeats = 128, 3
    return arguments


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _measure(arguments: argparse.Namespace) -> list[Row]:
    missing = [p for p, package in PACKAGES.items() if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} not installed here; run `make bench-env` and use its Python"
        )
    gpu = torch.cuda.is_available()
    if arguments.device == "cuda" and not gpu:
        raise UsageError("there is no GPU that torch can use; leave out --device cuda")
    devices = [arguments.device] if arguments.device else ["cpu", *["cuda"] * gpu]
    torch.set_num_threads(arguments.threads)
    rows = []
    for device in devices:
        for subject in SUBJECTS:
            rows += _subject_rows(subject, device, arguments)
    return rows


def _subject_rows(subject: str, device: str, arguments: argparse.Namespace) -> list[Row]:
    task = Task(device=device, steps=10) if arguments.quick else Task(device=device)
    setup = Setup(
        subject=prepare(subject),
        images=arguments.images,
        frozen=arguments.frozen,
        threads=arguments.threads,
        task=task,
    )
    where = device if device == "cuda" else f"{device} x{arguments.threads}"
    where += ", frozen" * arguments.frozen
    results = _turns(setup, arguments.repeats)
    return [_accuracy(where, subject, setup), *compare(where, subject, results)]


def _turns(setup: Setup, repeats: int) -> dict[str, Result]:
    """Let the contenders take turns, and judge what they found."""
    data = images(setup.images)
    clean, labels = data.batch(slice(None)), data.targets
    names = list(CONTENDERS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    results = {}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(closing(Worker(name, setup))) for name in names}
        for name in names:
            workers[name].run()  # not counted: it fills caches and imports what is lazy
        for turn in range(repeats):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                outcome = workers[name].run()
                seconds[name].append(outcome.seconds)
                if turn == repeats - 1:
                    judgement = judge(
                        network(setup.subject, device="cpu", frozen=False),
                        clean,
                        torch.from_numpy(outcome.adversarial),
                        labels,
                        setup.task.epsilon,
                    )
                    results[name] = Result(
                        seconds=tuple(seconds[name]), judgement=judgement, peak=outcome.peak
                    )
    return {name: results[name] for name in names}


def _accuracy(where: str, subject: str, setup: Setup) -> Row:
    """Return how many of the images the model reads right when nobody attacks them."""
    data = images(setup.images)
    clean = data.batch(slice(None))
    module = network(setup.subject, device="cpu", frozen=False)
    right = judge(module, clean, clean, data.targets, 0.0).n
    return Row(
        name=f"{where}, {subject}: clean accuracy",
        value=100 * right / len(data),
        unit="%",
        better="higher",
    )


if __name__ == "__main__":
    sys.exit(main())
