"""Did the attack itself work? Signs that low success proves nothing.

After the indicators of Pintor et al., "Indicators of attack failure: debugging and improving
optimization of adversarial examples", NeurIPS 2022 (arXiv 2106.09947) and the flags of AutoAttack.
Thresholds are ours; docs/health.md has a paragraph on each.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch

from casemate.evidence import HealthFlag, Severity
from casemate.guard import guarded
from casemate.inference.engine import craft
from casemate.threats import Access

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.inference.crafted import Crafted
    from casemate.inference.jobs import Stepper
    from casemate.target import Target

__all__ = [
    "PROBES",
    "looks_like_probabilities",
    "of_attack",
    "of_run",
    "of_target",
    "probe_cost",
    "unconstrained",
]

_FEW = 0.05
"""Share of samples up to which a sign is a warning rather than a failure."""
PROBES = 16
"""Samples that the probes use."""
_ENOUGH_STEPS = 40
_SAME = 1e-4
"""Relative difference of scores up to which they are the same, as a GPU may sum in any order."""

_ROUNDING = 1e-6
"""Relative slack for parameters that are quotients, such as 8/255."""

SENTENCES = {
    "not-finite": (
        "{count} of {n} samples met NaN or infinite scores or gradients; mend the model before "
        "judging it"
    ),
    "random-outputs": (
        "{count} of {n} samples got other scores on a second call, but success was judged on one "
        "call; attack and judge the average of many"
    ),
    "probabilities": (
        "the outputs of {count} of {n} samples, declared as logits, are probabilities, whose "
        "gradients vanish where the model is sure; remove the final softmax"
    ),
    "nothing-attacked": (
        "the clean system got {count} of {n} samples right that are not of the target class "
        "already, so there was nothing to attack; check the model and its preprocessing with "
        "casemate check, or choose other samples"
    ),
    "zero-gradients": (
        "{count} of {n} samples gave a first gradient of exactly zero and were not fooled; the "
        "model hides its gradients, so that this attack proves nothing on it"
    ),
    "lost-success": (
        "{count} of {n} samples fooled the model during the run but not when judged again; its "
        "answers depend on the batch or on chance: run casemate check"
    ),
    "unfinished": (
        "{count} of {n} samples were not fooled while the margin was still falling in the last "
        "tenth of the steps; raise steps"
    ),
    "out-of-reach": (
        "{count} of {n} samples were not fooled, but {steps} steps of {size:.3g} end at most "
        "{reach:.3g} from where they start and cannot use an epsilon of {epsilon:.3g}; raise steps "
        "or step_size"
    ),
    "no-budget": (
        "{count} of {n} samples were not fooled, but epsilon is {epsilon:.3g} where the data has "
        "steps of {step:.3g}, so that nothing which is stored or sent can change; raise epsilon"
    ),
    "budget-exhausted": (
        "the attacker's budget ended the run with {count} of {n} samples not fooled; the figures "
        "are for that budget"
    ),
    "unconstrained-failure": (
        "{count} of {n} samples were not fooled even where the perturbation may span the whole "
        "domain; the attack cannot find its way on this model: try another loss or more steps"
    ),
}
"""What each flag says; docs/health.md has a paragraph on each."""


def looks_like_probabilities(scores: Tensor) -> bool:
    """Return whether all rows lie in [0, 1] and sum to 1, as logits never do."""
    inside = bool(((scores >= 0) & (scores <= 1)).all())
    return inside and bool(((scores.sum(1) - 1).abs() < 1e-3).all())  # noqa: PLR2004 - float32 sums


def of_target(target: Target, data: Dataset, clean: Tensor, *, gradients: bool) -> list[HealthFlag]:
    """Return what the clean predictions tell: random or non-finite outputs, hidden softmax.

    Args:
        target: The system under attack.
        data: The samples.
        clean: (n, classes) scores of the samples.
        gradients: Whether the attack differentiates.
    """
    flags = []
    bad = int((~clean.isfinite().all(1)).sum())
    if bad:
        flags.append(_flag("not-finite", bad, len(clean)))
    few = min(PROBES, len(data))
    probes = data.batch(slice(0, few)).to(target.device)
    with guarded(target.modules, [target.device]), torch.no_grad():
        first, second = (target.scores(probes).float().nan_to_num() for _ in range(2))
    size = first.abs().amax(1, keepdim=True)
    differing = int(((first - second).abs() > _SAME * size).any(1).sum())
    if differing:
        flags.append(_flag("random-outputs", differing, few))
    if gradients and target.outputs == "logits" and looks_like_probabilities(clean):
        flags.append(_flag("probabilities", len(clean), len(clean)))
    return flags


def of_run(crafted: Crafted, eligible: np.ndarray, *, samples: int) -> list[HealthFlag]:
    """Return what the run tells: zero gradients, lost successes, unfinished optimization.

    Args:
        crafted: What the attack returned.
        eligible: (n,) bool, samples that count.
        samples: Number of samples before any was left out.
    """
    counted = torch.from_numpy(eligible)
    n = int(counted.sum())
    if n == 0:
        return [_flag("nothing-attacked", 0, samples)]
    failed = counted & ~crafted.success
    found = {
        "zero-gradients": failed & crafted.zero_gradient,
        "not-finite": failed & crafted.not_finite,
        "lost-success": failed & crafted.noted & ~crafted.not_finite,
        "unfinished": failed & crafted.unfinished,
    }
    flags = [_flag(name, int(which.sum()), n) for name, which in found.items() if which.any()]
    if crafted.exhausted:
        flags.append(_flag("budget-exhausted", int(failed.sum()), n))
    return flags


def of_attack(
    attack: Stepper, domain: Domain, *, failed: int, eligible: int, rounds: bool
) -> list[HealthFlag]:
    """Return what the parameters tell: steps that cannot span the ball, a ball without points.

    Args:
        attack: The attack.
        domain: What an input is.
        failed: Number of samples that count and were not fooled.
        eligible: Number of samples that count.
        rounds: Whether points are put on the domain's grid.
    """
    epsilon = attack.epsilon
    if failed == 0 or epsilon is None:
        return []
    least = domain.step or 0.0
    if epsilon <= 0 or (attack.norm == "linf" and epsilon < least * (1 - _ROUNDING)):
        return [
            HealthFlag(
                id="no-budget",
                severity=Severity.FAILURE if epsilon <= 0 or rounds else Severity.WARNING,
                message=SENTENCES["no-budget"].format(
                    count=failed, n=eligible, epsilon=epsilon, step=least
                ),
            )
        ]
    steps, size = getattr(attack, "schedule", (1, epsilon))
    reach = steps * size
    if reach >= epsilon * (1 - _ROUNDING):
        return []
    sentence = SENTENCES["out-of-reach"].format(
        steps=steps, size=size, reach=reach, epsilon=epsilon, count=failed, n=eligible
    )
    return [HealthFlag(id="out-of-reach", severity=Severity.FAILURE, message=sentence)]


def unconstrained(
    attack: Stepper,
    target: Target,
    data: Dataset,
    failed: Tensor,
    *,
    eligible: int,
    goal: int | None,
    seed: int,
    batch_size: int,
) -> tuple[list[HealthFlag], dict[str, int]]:
    """Return a flag if the attack fails even where the perturbation may span the whole domain.

    An iterated attack that may turn any input into any other and still does not fool the model is
    broken, not the model robust (indicator "unconstrained attack failure"). It starts at the clean
    input: a random start in the whole domain fools a model without any optimization. An attack
    without epsilon is unconstrained as it is.

    Args:
        attack: The attack; of those within an epsilon only iterated ones are probed.
        target: The model that the attacker works against.
        data: The samples.
        failed: (m,) int64 positions of samples that were not fooled.
        eligible: Number of samples that were attacked.
        goal: Label to reach, or None.
        seed: Of the attack.
        batch_size: Jobs at a time.

    Returns:
        The flags, and what the probe used, by name as in `Crafted.spent`.
    """
    if len(failed) == 0:
        return [], {}
    if attack.epsilon is None:
        return [_flag("unconstrained-failure", len(failed), eligible)], {}
    if not _iterated(attack):
        return [], {}
    domain = data.domain
    widest = domain.width if attack.norm == "linf" else domain.width * domain.size**0.5
    steps = max(_ENOUGH_STEPS, attack.gradient_asks)
    known = _parameters(attack)
    changes: dict[str, Any] = {"epsilon": widest, "steps": steps, "step_size": 2.5 * widest / steps}
    changes |= {k: v for k, v in {"random_start": False, "restarts": 1}.items() if k in known}
    free: Stepper = replace(attack, **changes)  # type: ignore[type-var]  # attacks are dataclasses
    few = failed[:PROBES]
    probes = data.select(few, how=["unconstrained", few.tolist()])
    goals = None if goal is None else torch.full((len(few),), goal, dtype=torch.int64)
    result = craft(free, target, probes, goals=goals, seed=seed, batch_size=batch_size)
    missed = int((~result.success).sum())
    flags = [_flag("unconstrained-failure", missed, len(few))] if missed else []
    return flags, result.spent


def probe_cost(attack: Stepper, n: int) -> tuple[int, int]:
    """Return the most samples that the checks send forward and backward for n samples."""
    few = min(PROBES, n)
    if attack.threat.access is not Access.GRADIENTS or not _iterated(attack):
        return 2 * few, 0
    steps = max(_ENOUGH_STEPS, attack.gradient_asks)
    return 2 * few + few * (steps + 2), few * steps


def _iterated(attack: Stepper) -> bool:
    """Return whether an attack within an epsilon takes steps that can be made longer."""
    return attack.epsilon is not None and {"epsilon", "steps", "step_size"} <= _parameters(attack)


def _parameters(attack: Stepper) -> set[str]:
    return {f.name for f in fields(attack)}  # type: ignore[arg-type]  # attacks are dataclasses


def _flag(name: str, count: int, n: int) -> HealthFlag:
    grave = name in _ALWAYS_GRAVE or (name != "budget-exhausted" and count > _FEW * n)
    return HealthFlag(
        id=name,
        severity=Severity.FAILURE if grave else Severity.WARNING,
        message=SENTENCES[name].format(count=count, n=n),
    )


_ALWAYS_GRAVE = ("nothing-attacked", "random-outputs", "probabilities")
