"""Flips that somebody chose, carried out on a model behind its defense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from casemate.evidence import HealthFlag, Severity
from casemate.hardware.aftermath import Aftermath
from casemate.hardware.attacks.attack import Observed
from casemate.hardware.attacks.readings import reading_of
from casemate.hardware.defenses.guarding import Evadable, split
from casemate.hardware.defenses.noticing import noticed
from casemate.hardware.placement import Everywhere
from casemate.stats import Measurement, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from torch import Tensor

    from casemate.hardware.attacks.attack import ChosenFlips
    from casemate.hardware.attacks.outcome import Outcome
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.bench import Bench
    from casemate.hardware.cases import Cases
    from casemate.hardware.defenses.guarding import OwnFlips
    from casemate.hardware.rowhammer.page_budget import PageBudget

__all__ = ["NO_GOAL", "SEARCH_STUCK", "chosen"]

SEARCH_STUCK = "search-stuck"
"""The search found no bit whose flip helps; see docs/health.md."""
NO_GOAL = "goal-before-attack"
"""What the attack wants is so before any bit flips; see docs/health.md."""

_ENDED = {
    "goal": "its goal on the model that it was run on",
    "budget": "its budget",
    "stuck": "no more bit that helps",
}


def chosen(
    attack: ChosenFlips,
    bench: Bench,
    clean: Tensor,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Observed, dict[str, np.ndarray]]:
    """Return what an attack that chooses its flips does, and rows of the evaluation data.

    The attacker searches on the model as he takes it to be: an aware one with what a defense puts
    into it, an unaware one without. Of a guard of memory or a check of products he knows how it
    works, and flips beside each bit what keeps it from being undone or noticed; the search itself
    is that on memory without the guard. All flips are made at once and stay.

    Args:
        attack: What chooses.
        bench: The deployed model and what stands beside it.
        clean: (n,) labels that it predicts without flips.
        progress: Called with flips that were read behind the defense, and all of them.
    """
    data, constraint = bench.evaluation, _constraint(attack, bench)
    outcome = attack.run(
        bench.known, bench.pool, data, bench.rng.child("attack"), constraint=constraint
    )
    made = _made(bench, [flip.number for flip in outcome.flips], constraint)
    shown = None if outcome.trigger is None else outcome.trigger(data.x)
    behind = _Behind(attack, bench, made, shown, outcome, clean)
    behind.run(progress)
    readings, flipped = behind.readings, behind.flipped
    predicted, moved = behind.predicted, behind.moved
    rows = _rows(attack, data.labels, clean, predicted if moved is None else moved)
    if moved is not None:
        rows["clean_attacked_label"] = predicted.numpy()
    eligible, success = rows["eligible"], rows["success"]
    measured = [
        rate("attack success rate", int(success.sum()), int(eligible.sum())),
        rate("accuracy under attack", int((predicted == data.labels).sum()), len(data)),
        _count("bits flipped", flipped[-1] if flipped else 0),
    ]
    broken = attack.has_goal and attack.wants(behind.before)
    if attack.has_goal:
        reached = next((k for k, r in enumerate(readings) if attack.wants(r)), None)
        until = 0 if broken else None if reached is None else flipped[reached]
        measured.append(_count("bits flipped until the goal", until))
    if behind.trigger_alone is not None and attack.aim is not None:
        hits = (behind.trigger_alone == attack.aim.target).numpy() & eligible
        name = "attack success rate without the attack"
        measured.append(rate(name, int(hits.sum()), int(eligible.sum())))
    table: dict[str, list[Any]] = {
        "tensor": [f.fault.tensor for f in outcome.flips],
        "index": [list(f.fault.index) for f in outcome.flips],
        "bit": [f.fault.bit for f in outcome.flips],
        "bits flipped": flipped,
        "accuracy": [r.accuracy for r in readings],
    }
    if attack.aim is not None:
        table["success"] = [r.success for r in readings]
    seen = noticed(bench, *_as_cases(bench, made)) if made else None
    if seen is not None:
        measured += [
            rate("faults detected", int(seen.detected.sum()), len(made)),
            rate("faults repaired", int(seen.repaired.sum()), len(made)),
        ]
        table["detected"] = seen.detected.tolist()
    observed = Observed(
        measurements=tuple(measured),
        tables={"flips": table},
        spent={
            "attack forward": outcome.spent.forward,
            "attack backward": outcome.spent.backward,
            "flips": flipped[-1] if flipped else 0,
            "verifier forward": behind.forward,
        },
        flags=_flags(attack, outcome, broken=broken, anywhere=constraint is None),
        notes={"the search ended by": _ENDED[outcome.ended]},
    )
    return observed, rows


def _constraint(attack: ChosenFlips, bench: Bench) -> PageBudget | None:
    """Return which bits a hammered memory module lets flip, of those that the attack may flip."""
    if bench.module is None:
        return None
    among = Everywhere(layers=getattr(attack, "layers", None))
    return bench.module.reach(bench.bare.memory, bench.rng.child("memory module"), among)


def _made(bench: Bench, wanted: Sequence[int], constraint: PageBudget | None) -> list[list[int]]:
    """Return the bits that are flipped for each bit that the attacker wants flipped."""
    defense = bench.defense
    if bench.aware and isinstance(defense, Evadable):
        return defense.evading(bench.defended, wanted, constraint=constraint)
    return [[number] for number in wanted]


def _flags(
    attack: ChosenFlips, outcome: Outcome, *, broken: bool, anywhere: bool
) -> tuple[HealthFlag, ...]:
    """Return what was wrong with the search, if anything was.

    Args:
        attack: What searched.
        outcome: What it did.
        broken: Whether the model behind its defense is what the attacker wants without any flip.
        anywhere: Whether any bit could flip, so that none was out of reach.
    """
    if broken or (not outcome.flips and outcome.ended == "goal"):
        message = (
            "the goal is reached before any bit flips, with deployment and defense alone, so that "
            "flips tell nothing; set the attack's goal below what the model does without flips, or "
            "mend what broke it"
        )
        return (HealthFlag(id=NO_GOAL, severity=Severity.FAILURE, message=message),)
    if outcome.flips and not (anywhere and attack.has_goal and outcome.ended == "stuck"):
        return ()
    if outcome.flips:
        message = (
            f"the search ended after {len(outcome.flips)} flips short of its goal, since no bit "
            "that it tried helps any more; what it did stands, but a model that withstands it is "
            "not shown to be robust; allow more candidates or another objective"
        )
        return (HealthFlag(id=SEARCH_STUCK, severity=Severity.FAILURE, message=message),)
    message = (
        "the search found no bit whose flip brings it nearer to its goal, so that nothing was "
        "attacked; allow more candidates, more inputs, other layers or pages"
    )
    return (HealthFlag(id=SEARCH_STUCK, severity=Severity.FAILURE, message=message),)


class _Behind:
    """The flips carried out one after another behind the defense, and the model after each.

    Attributes:
        before: Without flips.
        readings: After each flip.
        flipped: How many bits differ after each.
        predicted: (n,) predictions after the last.
        moved: The same on data as the attacker shows them; None if he shows them as they are.
        trigger_alone: Those on them without flips.
        forward: Inputs that were read for all this, by the attack as well.
    """

    def __init__(
        self,
        attack: ChosenFlips,
        bench: Bench,
        made: Sequence[Sequence[int]],
        shown: Tensor | None,
        outcome: Outcome,
        clean: Tensor,
    ) -> None:
        self._attack, self._bench, self._made, self._outcome = attack, bench, made, outcome
        self.readings: list[Reading] = []
        self.flipped: list[int] = []
        deployed, x = bench.defended, bench.evaluation.x
        regions = None  # a guard may change words that nobody struck
        if bench.guard is None:
            bits = np.array([n for flips in made for n in flips], dtype=np.int64)
            regions = np.unique(deployed.memory.locate(bits)[0]).tolist() or None
        self._plain = Aftermath(deployed, x, regions)
        self._shown = None if shown is None else Aftermath(deployed, shown, regions)
        self.forward = len(x) * (1 if shown is None else 2) * (len(made) + 1)
        self.predicted = clean
        self.trigger_alone = self.moved = None
        if self._shown is not None:
            self.trigger_alone = self.moved = self._shown.under(_as_cases(bench, [[]])[0])
            self.forward += len(x)
        self.before = self._reading()

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """Read the model after each flip that the attacker has not read just so himself."""
        bench, made = self._bench, self._made
        # without a defense of its own, and with no other bits than he knew of, he saw the same
        seen = (
            bench.guard is None
            and bench.known is bench.defended
            and all(len(bits) == 1 for bits in made)
        )
        differ: set[int] = set()
        for k, bits in enumerate(made):
            differ ^= set(bits)  # one that is flipped again is as it was
            self.flipped.append(len(differ))
            if seen and k + 1 < len(made):
                self.readings.append(self._outcome.flips[k].reading)
                continue
            self._read(differ)
            reading = self._reading()
            self.readings.append(self._outcome.flips[k].reading if seen else reading)
            if progress is not None:
                progress(k + 1, len(made))

    def _read(self, differ: Collection[int]) -> None:
        bench = self._bench
        case, own = _as_cases(bench, [sorted(differ)])
        if bench.guard is not None:
            case = bench.guard.guarded(bench.defended.memory, case, own).cases
        self.predicted = self._plain.under(case)
        self.moved = None if self._shown is None else self._shown.under(case)
        self.forward += len(self.predicted) * (1 if self.moved is None else 2)

    def _reading(self) -> Reading:
        labels = self._bench.evaluation.labels
        shown = self.predicted if self.moved is None else self.moved
        classes = self._bench.bare.graph.nodes[-1].shape[0]
        return reading_of(labels, self.predicted, shown, self._attack.aim, classes)


def _as_cases(bench: Bench, sets: Sequence[Sequence[int]]) -> tuple[Cases, OwnFlips]:
    """Return a case for each set of bits that are inverted, in memory and in what a guard adds."""
    number = np.array([n for bits in sets for n in bits], dtype=np.int64)
    case = np.repeat(np.arange(len(sets)), [len(bits) for bits in sets])
    return split(bench.defended.memory, case, number, len(sets))


def _rows(
    attack: ChosenFlips, labels: Tensor, clean: Tensor, attacked: Tensor
) -> dict[str, np.ndarray]:
    """Return which of the evaluation data count, and on which of these the attack succeeded."""
    eligible = clean == labels
    if attack.aim is None:
        success = attacked != labels  # a model whose scores are no numbers serves nobody
    else:
        eligible = eligible & attack.aim.at(labels)
        success = attacked == attack.aim.target
    goal = -1 if attack.aim is None else attack.aim.target
    return {
        "goal": torch.full_like(labels, goal).numpy(),
        "attacked_label": attacked.numpy(),
        "eligible": eligible.numpy(),
        "success": (success & eligible).numpy(),
    }


def _count(name: str, value: int | None) -> Measurement:
    """Return a number of bits, which is exact for this trial; None is not reached."""
    found = None if value is None else float(value)
    return Measurement(
        name=name,
        value=found,
        n=0 if found is None else 1,
        low=found,
        high=found,
        unit="bits",
        method="exact",
    )
