"""One trial at the inference gate: an attack, a defense in front, and the attacker's position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.data.dataset import digest_arrays
from casemate.errors import UsageError
from casemate.evidence import Evidence
from casemate.guard import guarded
from casemate.identity import key
from casemate.inference import health
from casemate.inference.engine import check_grid
from casemate.inference.examples import ExampleCache, crafted_examples
from casemate.inference.measure import (
    attacked_scores,
    clean_scores,
    measurements,
    predicted,
    rows,
)
from casemate.random import stream
from casemate.threats import Access

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.inference.jobs import Stepper
    from casemate.target import FrontDefense, Target

__all__ = ["Attacker", "Cost", "ExampleCache", "Setting", "check_grid", "cost", "evaluate"]

_EXAMPLES = 6


class Attacker(str, Enum):
    """Where the attacker stands relative to a defense in front of the model.

    The three positions are those of FAdeML (arXiv 1811.01444).
    """

    AFTER = "after"
    """Between the defense and the model: perturbs what the defense let through."""
    BEFORE = "before"
    """Before the defense and not knowing it: works against the bare model."""
    AWARE = "aware"
    """Before the defense and knowing it: differentiates through it."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything but the model and the data that decides a trial's evidence.

    Attributes:
        attack: The attack with its parameters.
        goal: Label to reach; None is any wrong one.
        defense: In front of the model, or None.
        attacker: The attacker's position; of no consequence without a defense.
        early_stop: Drop a sample once it is fooled. Off, the attack runs all its steps and keeps
            the best margin, which transfers better and gives more confident errors.
        round: Put attacked samples on the domain's grid (8-bit values).
        queries: Most points of a sample that the attacker may have evaluated; None is as many as
            the attack asks for.
        seed: Of the attack.
    """

    attack: Stepper
    goal: int | None = None
    defense: FrontDefense | None = None
    attacker: Attacker = Attacker.AWARE
    early_stop: bool = True
    round: bool = False
    queries: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Upper bound of the samples that a trial sends through the model.

    Attributes:
        forward: Samples forward.
        backward: Samples differentiated.
    """

    forward: int
    backward: int


def cost(setting: Setting, n: int) -> Cost:
    """Return the most samples that `evaluate` sends through the model for n samples."""
    attack = setting.attack
    most = float("inf") if setting.queries is None else setting.queries
    asks = min(attack.restarts * attack.asks, most)
    gradients = min(attack.restarts * attack.gradient_asks, most)
    # a point that fools the model is judged again after rounding
    looks = asks * (2 if setting.round else 1)
    checks = health.probe_cost(attack, n)
    judged = 3 * n  # clean, verified, attacked
    return Cost(
        forward=int(n * looks) + judged + checks[0],
        backward=int(n * gradients) + checks[1],
    )


def evaluate(
    setting: Setting,
    target: Target,
    data: Dataset,
    *,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    cache: ExampleCache | None = None,
) -> Evidence:
    """Run one attack against one system and measure it.

    Args:
        setting: Attack, goal, defense and the attacker's position.
        target: The model without the setting's defense.
        data: Samples to attack, with true labels.
        batch_size: Jobs at a time.
        progress: Called with jobs done and jobs in all.
        cache: Where the samples of an attacker who does not know the defense may already lie:
            they are the same for every defense. Nobody else's are put there.

    Raises:
        UsageError: If a parameter does not fit the domain or the model cannot give the access that
            the attack declares, or there is nothing to attack.
    """
    with guarded(target.modules, [target.device]):
        # a model that draws random numbers draws the same ones whatever ran before
        torch.manual_seed(stream(setting.seed, "model").key >> 1)
        return _evaluate(setting, target, data, batch_size, progress, cache)


def _evaluate(
    setting: Setting,
    target: Target,
    data: Dataset,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    cache: ExampleCache | None,
) -> Evidence:
    if len(data) == 0:
        raise UsageError(
            f"{data.name}: there are no samples to attack; raise samples or choose another class"
        )
    if setting.goal is not None and not 0 <= setting.goal < len(target.classes):
        raise UsageError(
            f"the goal is label {setting.goal}; choose one from 0 to {len(target.classes) - 1}"
        )
    if setting.defense is not None:
        setting.defense.check(data.domain)
    system = target if setting.defense is None else target.behind(setting.defense)
    transfer = setting.defense is not None and setting.attacker is Attacker.BEFORE
    clean, identity = clean_scores(system, data, batch_size), data.rows
    if setting.defense is not None and setting.attacker is Attacker.AFTER:
        data, system = _filtered(data, setting.defense, batch_size), target
    works_on = target if transfer else system
    right = predicted(clean) == data.targets
    if setting.goal is not None:
        right &= data.targets != setting.goal
    # the attacker of a transfer does not see what the system gets right
    chosen = torch.arange(len(data)) if transfer else right.nonzero().squeeze(1)

    crafted = crafted_examples(
        setting,
        works_on,
        data,
        chosen,
        batch_size=batch_size,
        progress=progress,
        cache=cache if transfer else None,
    )
    points = data.batch(slice(None))
    points[chosen] = crafted.adversarial
    table = rows(
        system,
        data,
        goal=setting.goal,
        clean=clean,
        attacked=attacked_scores(system, points, batch_size),
        points=points,
        attempted=torch.isin(torch.arange(len(data)), chosen),
    )
    table["row"] = identity.numpy()
    gradients = setting.attack.threat.access is Access.GRADIENTS
    flags = health.of_target(system, data, clean, gradients=gradients)
    flags += health.of_run(crafted, table["eligible"][chosen.numpy()], samples=len(data))
    withstood = table["eligible"] & ~table["success"]
    flags += health.of_attack(
        setting.attack,
        data.domain,
        failed=int(withstood.sum()),
        eligible=int(table["eligible"].sum()),
        rounds=setting.round,
    )
    probed: dict[str, int] = {}
    if not transfer and gradients:
        failed = torch.from_numpy(withstood).nonzero().squeeze(1)
        found, probed = health.unconstrained(
            setting.attack,
            works_on,
            data,
            failed,
            eligible=int(table["eligible"].sum()),
            goal=setting.goal,
            seed=setting.seed,
            batch_size=batch_size,
        )
        flags += found
    spent = dict(crafted.spent)
    spent["verifier forward"] += 2 * len(data)
    repeated = 2 * min(health.PROBES, len(data))
    spent["health forward"] = (
        repeated + probed.get("attack forward", 0) + probed.get("verifier forward", 0)
    )
    spent["health backward"] = probed.get("attack backward", 0)
    return Evidence(
        measurements=measurements(table, classes=len(target.classes)),
        flags=tuple(flags),
        spent=spent,
        samples=table,
        examples=_examples(table, data, points),
    )


def _filtered(data: Dataset, defense: FrontDefense, batch_size: int) -> Dataset:
    """Return the samples as the defense lets them through: where that attacker starts."""
    blocks = (slice(begin, begin + batch_size) for begin in range(0, len(data), batch_size))
    with guarded(()), torch.no_grad():
        inputs = torch.cat([defense(data.batch(block)) for block in blocks])
    inputs.clamp_(data.domain.low, data.domain.high)
    labels = data.targets.clone()
    return replace(
        data,
        name=f"{data.name}, filtered",
        inputs=inputs,
        labels=labels,
        index=None,
        groups=None,
        digest=key("filtered", data.digest, type(defense).__name__, digest_arrays(inputs)),
    )


def _examples(table: dict[str, np.ndarray], data: Dataset, points: Tensor) -> dict[str, np.ndarray]:
    """Return a few samples for pictures: successes first, then what withstood."""
    fooled = np.flatnonzero(table["success"])
    stood = np.flatnonzero(table["eligible"] & ~table["success"])
    position = np.concatenate([fooled, stood])[:_EXAMPLES]
    index = torch.from_numpy(position)
    return {
        "position": position.astype(np.int64),
        "clean": data.batch(index).numpy(),
        "attacked": points[index].numpy(),
        "bounds": np.array([data.domain.low, data.domain.high], dtype=np.float32),
    }
