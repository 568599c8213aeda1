"""Faults in weights and activations beside PyTorchFI, and what integers and estimates cost.

Run with `python -m benchmarks.faults`, with the official archives in `$CASEMATE_DATA`.

1. Single inverted bits of float32 weights: one list of faults, the same test images and one thread
   for both. PyTorchFI copies the model with the fault and runs it on all images; Casemate follows
   what changes, its cache counted. Before anything is timed, the predictions of both under the
   faults that both run must be the same for each image. Faults uniform over bits and, to see all
   layers, the same number in each layer: LeNet on MNIST, a VGG and a residual network on GTSRB.
2. Single inverted bits in outputs of convolutions, one a fault and an image, PyTorchFI in its
   batched mode: each image of a batch has a fault of its own.
3. All single-bit faults of the weights of an int8 LeNet on 1,000 images, in CPU-seconds.
4. Peak memory of a run, beyond the activations of the images.
5. How many faults of these an estimate of their mean takes until it is within 5 % of it (95 %), and
   whether its interval holds the mean of all.

PyTorchFI takes as long for one fault as for another, so it runs a sample of the list in each round,
chosen beforehand; times are per fault. Runs are interleaved, and ratios are medians of the rounds'
ratios. The exit code is 1 if a limit is broken.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from benchmarks.command import finish
from benchmarks.fault_peer import injected, struck
from benchmarks.fault_subjects import Subject, subject
from benchmarks.memory import MIB, Watch
from benchmarks.rows import Row
from casemate.errors import UsageError
from casemate.hardware.cache import bytes_per_image
from casemate.hardware.cases import flips
from casemate.hardware.estimation.faults import bits_of, strata_of
from casemate.hardware.estimation.means import Estimator, Means, Population
from casemate.hardware.estimation.scores import bit_scores, hardest
from casemate.hardware.formats import NumberFormat
from casemate.hardware.implementation import Implementation, deploy
from casemate.hardware.ops.conv import Conv2d
from casemate.hardware.propagate import Propagator
from casemate.hardware.upsets import Sites, Upsets
from casemate.random import stream

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = int(os.environ.get("CASEMATE_BENCH_ROUNDS", "5"))
_SEED = 0
_FAULTS, _PEER_FAULTS = 4000, 24  # of a list, and those of them that the peer runs in a round
_OVER_BITS = {"lenet": 200.0, "vgg": 200.0, "resnet": 3.0}
_OVER_LAYERS = {"lenet": 10.0, "vgg": 10.0, "resnet": 3.0}
_NEURONS = 10.0
_EXHAUSTIVE = 180.0  # CPU-seconds
_SPARE = 300.0  # MiB beside the activations
_TOLERANCE, _BUDGET, _SEEDS = 0.05, 8000, 5  # of an estimate's interval, and its faults at most


def main() -> int:
    """Measure, print the rows, and return the exit code."""
    torch.set_num_threads(1)
    return finish(
        __doc__,
        {
            **{name: partial(_floats, name) for name in ("lenet", "vgg", "resnet")},
            "integers": lambda: _integers(_subject("lenet")),
        },
    )


def _floats(name: str) -> list[Row]:
    made = _subject(name)
    return [*_weights(made), *([] if name == "resnet" else [_neurons(made)])]


def _subject(name: str) -> Subject:
    if not os.environ.get("CASEMATE_DATA"):
        raise UsageError("set CASEMATE_DATA to the folder of the archives: a download is not timed")
    return subject(name)


def _weights(made: Subject) -> list[Row]:
    """Return the rows of inverted bits in weights."""
    implementation = deploy(made.module, made.shape)
    rng = np.random.default_rng(_SEED)
    tensors = [f"{layer}.weight" for layer in made.layers]
    spans = np.array([implementation.memory.span(name) for name in tensors])
    sizes = spans[:, 1] - spans[:, 0]
    over_bits = rng.choice(len(spans), _FAULTS, p=sizes / sizes.sum())
    over_layers = rng.permutation(np.arange(_FAULTS // 10) % len(spans))
    rows = []
    for title, layers, limit in (
        ("uniform over bits", over_bits, _OVER_BITS[made.name]),
        ("the same number in each layer", over_layers, _OVER_LAYERS[made.name]),
    ):
        numbers = np.array([rng.integers(*spans[i]) for i in layers])
        picked = rng.choice(len(numbers), _PEER_FAULTS, replace=False)
        rows += _against(
            f"{made.title}, float32 weights, {title}",
            partial(_followed, implementation, made, numbers),
            partial(injected, made, [implementation.memory.fault(int(n)) for n in numbers[picked]]),
            picked,
            len(numbers),
            limit,
        )
    return rows


def _followed(implementation: Implementation, made: Subject, numbers: np.ndarray) -> np.ndarray:
    """Return (faults, images) predictions, the cache built anew."""
    propagator = Propagator(implementation.graph, implementation.memory, made.x)
    n = len(numbers)
    effects = propagator.effects(flips(implementation.memory, np.arange(n), numbers, n))
    labels = np.tile(propagator.labels.astype(np.int16), (n, 1))
    labels[effects.case, effects.image] = effects.label
    return labels


def _neurons(made: Subject) -> Row:
    """Return the row of inverted bits in outputs of convolutions."""
    implementation = deploy(made.module, made.shape)
    graph = implementation.graph
    names = [n.name for n in graph.nodes if isinstance(n.op, Conv2d)]
    sites = Sites(graph, ("sum",), names)
    rng = np.random.default_rng(_SEED)
    batches = 40
    count = batches * len(made.x)
    node, element, bit = sites.locate(rng.integers(0, sites.bits, count))
    image = np.tile(np.arange(len(made.x)), batches)
    layer = np.array([names.index(graph.nodes[i].name) for i in node])
    shapes = [graph.nodes[i].shape for i in node]
    where = np.array([np.unravel_index(e, s) for e, s in zip(element, shapes, strict=True)])
    picked = np.sort(rng.choice(batches, 3, replace=False))
    peer = (picked[:, None] * len(made.x) + np.arange(len(made.x))).reshape(-1)

    def ours() -> np.ndarray:
        propagator = Propagator(graph, implementation.memory, made.x)
        effects = propagator.upset(Upsets.inverted(node, element, bit, image))
        labels = propagator.labels[image].copy()
        labels[effects.case] = effects.label
        return labels

    def theirs() -> np.ndarray:
        return struck(made, layer[peer], where[peer], bit[peer])

    (row, *_) = _against(
        f"{made.title}, outputs of convolutions, float32, a fault an image",
        ours,
        theirs,
        peer,
        count,
        _NEURONS,
    )
    return row


def _against(
    title: str,
    ours: Callable[[], np.ndarray],
    theirs: Callable[[], np.ndarray],
    picked: np.ndarray,
    count: int,
    limit: float,
) -> list[Row]:
    """Return the rows of two ways to the same predictions, once these agree."""
    mine, other = ours(), theirs()
    different = int((mine[picked] != other).sum())
    if different:
        raise RuntimeError(f"{title}: {different} of {other.size} predictions differ")
    times: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        times.append((_seconds(ours) / count, _seconds(theirs) / len(picked)))
        print(f"{title}: {times[-1][1] / times[-1][0]:.0f}x", file=sys.stderr)
    return [
        Row(
            name=f"{title}: faults a second / pytorchfi",
            value=statistics.median(theirs / ours for ours, theirs in times),
            unit="x",
            limit=limit,
            better="higher",
            peer="pytorchfi",
        ),
        Row(
            name=f"{title}: time a fault",
            value=1000 * statistics.median(ours for ours, _ in times),
            unit="ms",
        ),
        Row(
            name=f"{title}: pytorchfi: time a fault",
            value=1000 * statistics.median(theirs for _, theirs in times),
            unit="ms",
            peer="pytorchfi",
        ),
    ]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _integers(made: Subject) -> list[Row]:
    """Return the rows of all faults of the integer network, and of its memory."""
    implementation = deploy(
        made.module, made.shape, NumberFormat(name="int8"), calibration=made.calibration
    )
    memory = implementation.memory
    spans = [memory.span(r.name) for r in memory.where(roles=["weight"])]
    numbers = np.concatenate([np.arange(*span) for span in spans])
    watch = Watch("cpu")
    started = time.process_time()
    propagator = Propagator(implementation.graph, memory, made.x)
    wrong = 0
    for part in np.array_split(numbers, 64):
        effects = propagator.effects(flips(memory, np.arange(len(part)), part, len(part)))
        wrong += int(effects.changed.sum())
    seconds = time.process_time() - started
    share = wrong / len(numbers) / len(made.x)
    print(f"{made.title}, int8: mean corruption {share:.3g}", file=sys.stderr)
    title = f"{made.title}, int8 weights"
    rows = [
        Row(
            name=f"{title}: all {len(numbers):,} faults",
            value=seconds,
            unit="CPU-s",
            limit=_EXHAUSTIVE,
        )
    ]
    peak = watch.peak()
    if peak is not None:
        activations = bytes_per_image(implementation.graph) * len(made.x)
        rows.append(
            Row(
                name=f"{title}: peak memory beyond the activations",
                value=(peak[1] - activations) / MIB,
                unit="MiB",
                limit=_SPARE,
            )
        )
    return [*rows, *_estimates(title, implementation, propagator, share)]


def _estimates(
    title: str, implementation: Implementation, propagator: Propagator, share: float
) -> list[Row]:
    """Return the rows of estimates of the mean corruption, which is known."""
    memory = implementation.memory
    regions = memory.where(roles=["weight"])
    population = Population(
        faults=bits_of(memory, regions),
        strata=strata_of(memory, regions),
        scores=lambda: bit_scores(
            propagator.graph,
            propagator.values,
            hardest(propagator.cache.scores, propagator.cache.x),
            regions,
        ),
    )

    def corruption(numbers: np.ndarray) -> np.ndarray:
        n = len(numbers)
        changed = propagator.effects(flips(memory, np.arange(n), numbers, n)).changed
        shares: np.ndarray = changed / len(propagator.labels)
        return shares

    rows = []
    for estimator in get_args(Estimator):
        if estimator == "exhaustive":
            continue
        found = [
            Means(
                population,
                estimator=estimator,
                tolerance=_TOLERANCE,
                budget=_BUDGET,
                rng=stream(seed, "estimates"),
            ).of(corruption, (0.0, 1.0))
            for seed in range(_SEEDS)
        ]
        width = statistics.median(e.half_width / e.mean if e.mean else math.inf for e in found)
        held = sum(e.low <= share <= e.high for e in found)
        what = f"{title}, mean corruption, {estimator}"
        rows += [
            Row(
                name=f"{what}: longer half of the interval after at most {_BUDGET:,} faults",
                value=100 * width,
                unit="%",
                limit=100 * _TOLERANCE if estimator == "importance" else None,
            ),
            Row(
                name=f"{what}: faults tried",
                value=statistics.median(e.tried for e in found),
                unit="faults",
            ),
            Row(
                name=f"{what}: intervals of {_SEEDS} that hold the mean",
                value=held,
                unit="",
                better="higher",
            ),
        ]
    return rows


if __name__ == "__main__":
    sys.exit(main())
