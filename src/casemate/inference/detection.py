"""Whether those who watch a deployment would notice an attack on training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from casemate.inference.monitoring import threshold
from casemate.inference.monitors.accuracy import AccuracyMonitor
from casemate.inference.monitors.class_distribution import ClassDistributionMonitor
from casemate.inference.monitors.confidence import ConfidenceMonitor
from casemate.inference.windows import Answers
from casemate.models.hyperparameters import number, whole
from casemate.stats import rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casemate.inference.windows import WindowMonitor
    from casemate.random import Stream
    from casemate.stats import Measurement

__all__ = ["MONITORS", "Watch", "detection"]

MONITORS: Mapping[str, WindowMonitor] = {
    "accuracy": AccuracyMonitor(),
    "confidence": ConfidenceMonitor(),
    "classes": ClassDistributionMonitor(),
}
"""The monitors by the names that the figures give them."""

_SPLITS = 20
_SHOWN = {"clean": "attacked", "control": "control_attacked"}
"""Columns of victim and control, and those of their answers to inputs with the trigger."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a team watches a deployment.

    Attributes:
        size: Inputs in a window.
        false_alarms: Share of windows of clean traffic to yesterday's model that may raise alarm.
        windows: Windows that are drawn to set each alarm, and as many to judge it.
        share: Share of a window's inputs that carry the trigger when it is used, from 0 to 1.
    """

    size: int = 200
    false_alarms: float = 0.01
    windows: int = 1000
    share: float = 0.1

    def __post_init__(self) -> None:
        whole("watch.size", self.size, low=1, high=100_000)
        number("watch.false_alarms", self.false_alarms, low=1e-6, high=0.5)
        whole("watch.windows", self.windows, low=_fewest(self.false_alarms), high=1_000_000)
        number("watch.share", self.share, low=0, high=1)


def detection(
    table: Mapping[str, np.ndarray],
    *,
    rng: Stream,
    watch: Watch | None = None,
    goal: int | None = None,
    triggered: bool = False,
    monitors: Mapping[str, WindowMonitor] = MONITORS,
) -> list[Measurement]:
    """Return how often each monitor raises alarm over the victim and over clean models.

    The team knows yesterday's model, the reference, and its clean traffic. Samples are cut into
    two halves at random. From one the alarm is set: a monitor gets half of it as its reference and
    windows are drawn from the other half, over 20 such divisions, so that the threshold allows for
    how little so few samples tell; it is the order statistic of `monitoring.threshold`. From as
    many samples of the other half come the windows that are judged: of the reference's answers,
    which gives the false alarms; of the victim's on the same inputs, which is normal use; and of
    the victim's with triggers in some inputs. Then the halves change places.

    An alarm does not say that there was an attack: a clean model of another seed than the
    reference's raises alarms as well, by confidence above all. Where there is such a model, the
    control, it is judged on the same inputs as the victim, the triggered ones included. What the
    victim raises beyond it is the attack's: in normal use beyond a new training, with triggers
    beyond what such inputs do to any model.

    Windows are drawn with replacement from the same samples. Wilson's interval, with n the number
    of windows, therefore says how well the rate is known for these samples and these two models,
    not for other samples or another training; several seeds tell that.

    Triggered inputs are drawn from all samples that are not of the attacker's class, whether the
    trigger works on them or not, and keep their true label.

    Args:
        table: Columns (n,) "label", "reference_label", "clean_label" and, where the models give
            probabilities, "reference_confidence" and "clean_confidence"; with triggers also
            "attacked_label" and "attacked_confidence". With a control the same as of the victim:
            "control_label", "control_attacked_label" and so on.
        rng: Of the halves and the windows.
        watch: How the team watches; the defaults if None.
        goal: The attacker's class, or None for none.
        triggered: Whether inputs with a trigger are in the table.
        monitors: By name.

    Returns:
        "false alarms by NAME", "detection by NAME" and, with a control, "alarms by NAME over
        another clean model"; with triggers the last two again, "... with triggers"; without a value
        where a window has more inputs than there are samples.
    """
    watch = Watch() if watch is None else watch
    models = [who for who in _SHOWN if f"{who}_label" in table]
    shown = [_SHOWN[who] for who in models] if triggered else []
    answers = {who: _answers(table, who) for who in ("reference", *models, *shown)}
    confident = all(a.confidence is not None for a in answers.values())
    usable = {k: m for k, m in monitors.items() if confident or not m.needs_confidence}
    n = len(table["label"])
    counts = {(name, who): 0 for name in usable for who in answers}
    judged = 0
    if n >= max(watch.size, 4):  # half of a half is not empty
        draw = rng.numpy()
        order = draw.permutation(n)
        halves = order[: n // 2], order[n // 2 :]
        for known, fresh in (halves, halves[::-1]):
            judged += _half(answers, known, fresh, usable, watch, goal, draw, counts)
    words = {
        "reference": "false alarms by {}",
        "clean": "detection by {}",
        "attacked": "detection by {} with triggers",
        "control": "alarms by {} over another clean model",
        "control_attacked": "alarms by {} over another clean model with triggers",
    }
    return [rate(words[who].format(name), alarms, judged) for (name, who), alarms in counts.items()]


def _answers(table: Mapping[str, np.ndarray], who: str) -> Answers:
    return Answers(
        label=table["label"],
        predicted=table[f"{who}_label"],
        confidence=table.get(f"{who}_confidence"),
    )


def _half(
    answers: Mapping[str, Answers],
    known: np.ndarray,
    fresh: np.ndarray,
    monitors: Mapping[str, WindowMonitor],
    watch: Watch,
    goal: int | None,
    draw: np.random.Generator,
    counts: dict[tuple[str, str], int],
) -> int:
    """Set the alarms on some samples, count them on others; return how many windows were judged."""
    calm: dict[str, list[np.ndarray]] = {name: [] for name in monitors}
    seen: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in counts}
    reference, set_by = answers["reference"], -(-watch.windows // _SPLITS)
    judged_by = -(-watch.windows // (2 * _SPLITS))
    exposed = reference.label != goal if "attacked" in answers else None
    for _ in range(_SPLITS):
        order, pool = draw.permutation(known), draw.permutation(fresh)[: len(known) // 2]
        base = reference.at(order[len(pool) :])
        quiet = reference.at(draw.choice(order[: len(pool)], (set_by, watch.size)))
        positions = draw.choice(pool, (judged_by, watch.size))
        traffic = {
            who: answers[who].at(positions) for who in ("reference", *_SHOWN) if who in answers
        }
        if exposed is not None:
            traffic |= _triggered(answers, pool[exposed[pool]], positions, watch, draw)
        for name, monitor in monitors.items():
            calm[name].append(monitor.check(base, quiet))
            for who, windows in traffic.items():
                seen[name, who].append(monitor.check(base, windows))
    for name in monitors:
        limit = threshold(torch.from_numpy(np.concatenate(calm[name])), watch.false_alarms)
        for who in answers:
            for scores in seen[name, who]:
                counts[name, who] += int((scores > limit).sum())
    return judged_by * _SPLITS


def _fewest(false_alarms: float) -> int:
    """Return how many windows it takes to set an alarm that so few of them raise."""
    return max(2 * _SPLITS, math.ceil(1 / false_alarms - 1e-9))


def _triggered(
    answers: Mapping[str, Answers],
    targets: np.ndarray,
    positions: np.ndarray,
    watch: Watch,
    draw: np.random.Generator,
) -> dict[str, Answers]:
    """Return windows of victim and control in which some inputs, anywhere, carry the trigger."""
    models = {plain: shown for plain, shown in _SHOWN.items() if shown in answers}
    if len(targets) == 0:  # all samples are of the attacker's class
        return {shown: answers[plain].at(positions) for plain, shown in models.items()}
    carry = np.zeros(positions.shape, dtype=bool)
    carry[:, : round(watch.share * watch.size)] = True
    carry = draw.permuted(carry, axis=1)
    positions = np.where(carry, draw.choice(targets, positions.shape), positions)
    return {
        shown: answers[plain].at(positions).where(carry, answers[shown].at(positions))
        for plain, shown in models.items()
    }
