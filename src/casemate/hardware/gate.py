"""The hardware gate: what an attack does to a deployed model, behind its defense, as evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from casemate.errors import ParameterError, UsageError
from casemate.evidence import Evidence
from casemate.hardware.attacks.attack import Accident, ChosenFlips, Observed
from casemate.hardware.attacks.random_faults import RandomFaults
from casemate.hardware.attacks.readings import Watch
from casemate.hardware.attacks.samples import Samples
from casemate.hardware.bench import Bench
from casemate.hardware.cases import flips
from casemate.hardware.chosen import chosen
from casemate.hardware.defenses.guarding import Fitted, ProductCheck
from casemate.hardware.implementation import deploy
from casemate.hardware.multiplications import multiplications
from casemate.hardware.room import MEBI, check_scores, room
from casemate.stats import Measurement, difference, rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from casemate.hardware.defenses.guarding import Defense
    from casemate.hardware.deployment import Deployment
    from casemate.random import Stream

__all__ = ["Inputs", "Struck", "bench_of", "check", "strike"]

Inputs = Samples
"""Inputs with their labels, as the network gets them."""


@dataclass(frozen=True)
class Struck:
    """What `strike` measures.

    Attributes:
        revision: Raised when that changes, so that it is measured again.
    """

    revision: ClassVar[int] = 4


def bench_of(
    module: nn.Module,
    deployment: Deployment,
    *,
    samples: Inputs,
    pool: Inputs,
    clean: Tensor,
    defense: Defense | None,
    rng: Stream,
    classes: int,
) -> Bench:
    """Return a network deployed, with all that stands beside it.

    Args:
        module: Left as it is.
        deployment: How it is deployed.
        samples: What it is measured on.
        pool: What the attacker has, none of the samples.
        clean: (n, *shape) inputs to calibrate on, none of both.
        defense: Or None.
        rng: Of all that is random.
        classes: How many scores it should give.

    Raises:
        UsageError: If the network cannot be deployed so.
    """
    bare = deploy(module, tuple(samples.x.shape[1:]), deployment.format, calibration=clean)
    given = bare.graph.nodes[-1].shape
    if given != (classes,):
        raise UsageError(
            f"hardware needs a network that gives a row of {classes} scores, one a class, but this "
            f"one gives {' x '.join(map(str, given)) or 'one number'}; give one that does"
        )
    return Bench(
        bare=bare,
        pool=pool,
        evaluation=samples,
        clean=clean,
        defense=defense,
        aware=deployment.attacker == "aware",
        module=deployment.rowhammer,
        rng=rng,
        memory_limit=deployment.memory_limit * MEBI,
    )


def check(attack: ChosenFlips | Accident | None, bench: Bench) -> None:
    """Raise `UsageError` if attack, defense or memory module do not fit the deployed model."""
    if bench.defense is not None:
        bench.defense.check(bench.bare)
    if attack is not None:
        attack.check(bench.bare)
        if isinstance(attack, Accident) and bench.memory_limit is not None:
            room(bench.bare.graph, bench.memory_limit)  # refuses what holds no image
            if isinstance(attack, RandomFaults):
                check_scores(attack.scored(bench.bare), bench.memory_limit)
    if bench.module is not None:
        if attack is not None and not isinstance(attack, ChosenFlips):
            raise ParameterError(
                "rowhammer",
                "is for attacks that flip bits by hammering, but this one has them struck by "
                "chance; remove it, or choose another attack such as random-flips",
            )
        bench.module.check(bench.bare.memory)


def strike(
    attack: ChosenFlips | Accident | None,
    bench: Bench,
    before: Tensor,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Attack a deployed model and measure it.

    Args:
        attack: None only measures the model as deployed.
        bench: The model and all that stands beside it.
        before: (n,) labels that the model predicted of the evaluation data before it was deployed.
        progress: Called with what is done and how much there is.

    Raises:
        UsageError: If attack or defense cannot be run on that model.
    """
    bench = _fitted(bench)
    labels = bench.evaluation.labels
    deployed = bench.defended
    clean = Watch(deployed.graph, deployed.memory.values, bench.evaluation.x).predictions(
        deployed.memory.values
    )
    measured = [
        *_deployed(before == labels, clean == labels),
        *_costs(bench),
        *_false_alarms(bench),
    ]
    rows: dict[str, np.ndarray] = {
        "label": labels.numpy(),
        "before_label": before.numpy(),
        "clean_label": clean.numpy(),
    }
    found = Observed(measurements=())
    if isinstance(attack, ChosenFlips):
        found, more = chosen(attack, bench, clean, progress=progress)
        rows |= more
    elif attack is not None:
        found = attack.observe(bench, progress=progress)
    return Evidence(
        measurements=(*found.measurements, *measured),
        flags=found.flags,
        spent=_spent(found.spent, len(labels)),
        samples=rows,
        tables=found.tables,
        notes={**_notes(bench), **found.notes},
    )


def _fitted(bench: Bench) -> Bench:
    """Return the bench with its defense fitted to the model, if that is to be."""
    given: object = bench.defense
    if not isinstance(given, Fitted):
        return bench
    made = given.fitted(
        bench.bare, bench.clean, bench.rng.child("defense"), memory=bench.memory_limit
    )
    return replace(bench, defense=made)


def _spent(of_attack: dict[str, int], images: int) -> dict[str, int]:
    """Return what was spent, with the model's own reading before and after deployment."""
    verifier = of_attack.get("verifier forward", 0) + 2 * images
    return {**of_attack, "verifier forward": verifier}


def _deployed(before: Tensor, now: Tensor) -> list[Measurement]:
    """Return the accuracy before and after deployment, and what it costs."""
    n = len(now)
    lost, gained = int((before & ~now).sum()), int((now & ~before).sum())
    return [
        rate("clean accuracy", int(now.sum()), n),
        rate("accuracy before deployment", int(before.sum()), n),
        difference("clean accuracy drop", lost, gained, n),
    ]


def _costs(bench: Bench) -> list[Measurement]:
    """Return what the defense takes, as shares of what the model has."""
    if bench.defense is None:
        return []
    deployed = bench.defended
    cost = bench.defense.cost(deployed)
    work = multiplications(deployed)
    return [
        _exact("storage of the defense", cost.bits / deployed.memory.bits),
        *([_exact("operations of the defense", cost.operations / work)] if work else []),
    ]


def _exact(name: str, value: float) -> Measurement:
    return Measurement(name=name, value=value, n=1, low=value, high=value, unit="x", method="exact")


def _false_alarms(bench: Bench) -> list[Measurement]:
    """Return how often products raise an alarm without faults; guards of memory never do."""
    if not isinstance(bench.defense, ProductCheck):
        return []
    nothing = np.zeros(0, dtype=np.int64)
    unchanged = flips(bench.defended.memory, nothing, nothing, 1)
    (raised,) = bench.defense.alarms(bench.defended, unchanged, bench.evaluation.x, bench.limits)
    return [rate("false alarms of the defense", int(raised.sum()), len(raised))]


def _notes(bench: Bench) -> dict[str, Any]:
    """Return what the model's owner should know of its deployment."""
    deployed = bench.defended
    notes: dict[str, Any] = {
        "inputs to calibrate on": len(bench.clean),
        "inputs of the attacker": len(bench.pool),
        "bits of memory": deployed.memory.bits,
        "words of memory": sum(r.count for r in deployed.memory.regions),
    }
    defense: object = bench.defense
    if isinstance(defense, Fitted):
        notes |= defense.fit
    if deployed.notes:
        notes["deployment"] = list(deployed.notes)
    return notes
