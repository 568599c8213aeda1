"""Flips that somebody chose, carried out on a model behind its defense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from casemate.evidence import HealthFlag, Severity
from casemate.hardware.aftermath import Aftermath
from casemate.hardware.attacks.attack import Observed
from casemate.hardware.attacks.readings import Reading, Watch
from casemate.hardware.defenses.guarding import MemoryGuard, ProductCheck, split
from casemate.hardware.defenses.noticing import noticed
from casemate.stats import Measurement, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from casemate.hardware.attacks.attack import ChosenFlips
    from casemate.hardware.attacks.outcome import Outcome
    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips

__all__ = ["SEARCH_STUCK", "chosen"]

SEARCH_STUCK = "search-stuck"
"""The search found no bit whose flip helps; see docs/health.md."""


def chosen(
    attack: ChosenFlips,
    bench: Bench,
    clean: Tensor,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Observed, dict[str, np.ndarray]]:
    """Return what an attack that chooses its flips does, and rows of the evaluation data.

    The attacker searches on the model as he takes it to be: an aware one with a restriction's
    operations in it, an unaware one without. Of a guard of memory or a check of products he knows
    how it works, and flips beside each bit what keeps it from being undone or noticed; the search
    itself is that on bare memory. All flips are made at once and stay.

    Args:
        attack: What chooses.
        bench: The deployed model and what stands beside it.
        clean: (n,) labels that it predicts without flips.
        progress: Called with flips that were read behind the defense, and all of them.
    """
    rng, data = bench.rng, bench.evaluation
    constraint = None
    if bench.module is not None:
        constraint = bench.module.reach(bench.bare.memory, rng.child("memory module"))
    outcome = attack.run(bench.known, bench.pool, data, rng.child("attack"), constraint=constraint)
    wanted = [flip.number for flip in outcome.flips]
    made = _made(bench, wanted)
    cases, own = _so_far(bench, made)
    read = cases
    if bench.guard is not None:
        read = bench.guard.guarded(bench.defended.memory, cases, own).cases
    shown = None if outcome.trigger is None else outcome.trigger(data.x)
    readings, predicted, moved = _readings(attack, bench, read, shown, outcome, progress)
    flipped = [len(_odd(made[: k + 1])) for k in range(len(made))]
    reached = next((k for k, r in enumerate(readings) if attack.wants(r)), None)
    rows = _rows(attack, data.labels, clean, predicted if moved is None else moved)
    if moved is not None:
        rows["clean_attacked_label"] = predicted.numpy()
    eligible, success = rows["eligible"], rows["success"]
    measured = [
        rate("attack success rate", int(success.sum()), int(eligible.sum())),
        rate("accuracy under attack", int((predicted == data.labels).sum()), len(data)),
        _count("bits flipped", flipped[-1] if flipped else 0),
    ]
    if attack.has_goal:
        until = 0 if attack.wants(outcome.before) else None if reached is None else flipped[reached]
        measured.append(_count("bits flipped until the goal", until))
    if shown is not None and attack.aim is not None:
        measured.append(_without_flips(bench, attack.aim.target, shown, eligible))
    table: dict[str, list[Any]] = {
        "tensor": [f.fault.tensor for f in outcome.flips],
        "index": [list(f.fault.index) for f in outcome.flips],
        "bit": [f.fault.bit for f in outcome.flips],
        "bits flipped": flipped,
        "accuracy": [r.accuracy for r in readings],
    }
    if attack.aim is not None:
        table["success"] = [r.success for r in readings]
    seen = noticed(bench, *_alone(bench, made)) if made else None
    if seen is not None:
        measured += [
            rate("faults detected", int(seen.detected.sum()), len(made)),
            rate("faults repaired", int(seen.repaired.sum()), len(made)),
        ]
        table["detected"] = seen.detected.tolist()
    flags = []
    if outcome.ended == "stuck" and not outcome.flips:
        flags.append(
            HealthFlag(
                id=SEARCH_STUCK,
                severity=Severity.FAILURE,
                message="the search found no bit whose flip brings it nearer to its goal, so that "
                "nothing was attacked; allow more candidates, more inputs, other layers or pages",
            )
        )
    observed = Observed(
        measurements=tuple(measured),
        tables={"flips": table},
        spent={
            "attack forward": outcome.spent.forward,
            "attack backward": outcome.spent.backward,
            "flips": flipped[-1] if flipped else 0,
            "verifier forward": _verified((1 if shown is None else 2) * len(data), len(made)),
        },
        flags=tuple(flags),
    )
    return observed, rows


def _verified(images: int, flips: int) -> int:
    """Return how many inputs were read: by the attack after each flip, and behind the defense."""
    return 2 * images * (flips + 1)


def _made(bench: Bench, wanted: Sequence[int]) -> list[list[int]]:
    """Return the bits that are flipped for each bit that the attacker wants flipped."""
    defense = bench.defense
    if bench.aware and isinstance(defense, (MemoryGuard, ProductCheck)):
        return defense.evading(bench.defended.memory, wanted)
    return [[number] for number in wanted]


def _odd(flips: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the bits that differ after some flips: those that flipped an odd number of times."""
    made = np.array([n for f in flips for n in f], dtype=np.int64)
    bits, times = np.unique(made, return_counts=True)
    differ: np.ndarray = bits[times % 2 == 1]
    return differ


def _so_far(bench: Bench, made: Sequence[Sequence[int]]) -> tuple[Cases, OwnFlips]:
    """Return a case for each flip with all before it."""
    sets = [_odd(made[: k + 1]) for k in range(len(made))]
    return _as_cases(bench, sets)


def _alone(bench: Bench, made: Sequence[Sequence[int]]) -> tuple[Cases, OwnFlips]:
    """Return a case for each flip with what is flipped for it, and nothing else."""
    return _as_cases(bench, [np.array(bits, dtype=np.int64) for bits in made])


def _as_cases(bench: Bench, sets: Sequence[np.ndarray]) -> tuple[Cases, OwnFlips]:
    number = np.concatenate([np.zeros(0, dtype=np.int64), *sets])
    case = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    return split(bench.defended.memory, case, number, len(sets))


def _readings(
    attack: ChosenFlips,
    bench: Bench,
    read: Cases,
    shown: Tensor | None,
    outcome: Outcome,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Reading], Tensor, Tensor | None]:
    """Return the model after each flip, and after the last its predictions as the data are.

    Those on data as the attacker shows them are returned as well, if he shows them otherwise.
    """
    deployed, data = bench.defended, bench.evaluation
    exact = bench.guard is None and bench.known is deployed
    if exact and read.count:  # the attacker saw it so himself: only the last is missing
        read = read.part(read.count - 1, read.count)
    if not read.count:
        nothing = Watch(deployed.graph, deployed.memory.values, data.x)
        as_is = nothing.predictions(deployed.memory.values)
        return [], as_is, None if shown is None else deployed.scores(shown).argmax(1)
    own = Aftermath(deployed, data.x, read)
    moved = None if shown is None else iter(Aftermath(deployed, shown, read))
    readings: list[Reading] = []
    for plain in own:
        other = None if moved is None else next(moved)
        readings.append(_reading(attack, data.labels, plain, plain if other is None else other))
        if progress is not None:
            progress(len(readings), read.count)
    return [f.reading for f in outcome.flips] if exact else readings, plain, other


def _reading(attack: ChosenFlips, labels: Tensor, plain: Tensor, shown: Tensor) -> Reading:
    right = plain == labels
    accuracy = float(right.double().mean())
    if attack.aim is None:
        return Reading(accuracy=accuracy)
    aimed = attack.aim.at(labels)
    hits = shown[aimed] == attack.aim.target
    others = right[~aimed]
    return Reading(
        accuracy=accuracy,
        success=float(hits.double().mean()) if len(hits) else None,
        others=float(others.double().mean()) if len(others) else None,
    )


def _rows(
    attack: ChosenFlips, labels: Tensor, clean: Tensor, attacked: Tensor
) -> dict[str, np.ndarray]:
    """Return which of the evaluation data count, and on which of these the attack succeeded."""
    eligible = clean == labels
    if attack.aim is None:
        success = attacked != labels  # a model whose scores are no numbers serves nobody
    else:
        eligible = eligible & attack.aim.at(labels) & (labels != attack.aim.target)
        success = attacked == attack.aim.target
    goal = -1 if attack.aim is None else attack.aim.target
    return {
        "goal": torch.full_like(labels, goal).numpy(),
        "attacked_label": attacked.numpy(),
        "eligible": eligible.numpy(),
        "success": (success & eligible).numpy(),
    }


def _without_flips(bench: Bench, target: int, shown: Tensor, eligible: np.ndarray) -> Measurement:
    """Return how often the trigger alone leads to the target."""
    predicted = bench.defended.scores(shown).argmax(1).numpy()
    hits = int((predicted[eligible] == target).sum())
    return rate("attack success rate without the attack", hits, int(eligible.sum()))


def _count(name: str, value: int | None) -> Measurement:
    return Measurement(
        name=name,
        value=None if value is None else float(value),
        n=0 if value is None else 1,
        low=None,
        high=None,
        unit="bits",
        method="t",
    )
