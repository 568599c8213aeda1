"""What an attack on training did: the trained model beside one that was trained without it.

Whatever the attack, a sample counts if the model trained without the attack, the reference, gets it
right. A backdoor succeeds where the trained model then answers the attacker's label to the sample
with the trigger; other targeted attacks succeed where it does so without one; attacks on
availability succeed where it is wrong.

The control is trained as the reference was, from another seed. How far it is from the reference
tells what training anew does without any attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from casemate.data.similarity import ssim
from casemate.errors import UsageError
from casemate.evidence import Evidence
from casemate.guard import guarded
from casemate.inference.alarms import Guarded, alarms
from casemate.inference.detection import detection
from casemate.inference.exposure_flags import exposure_flags
from casemate.inference.measure import TOP, predicted, rank
from casemate.inference.norms import distance, round_to_step
from casemate.random import stream
from casemate.stats import difference, largest_difference, mean, quantile, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.stats import Measurement
    from casemate.target import Target

__all__ = ["Exposure", "Guarded", "expose", "scores"]

WITHOUT_TRIGGER = "target answered without the trigger"
"""Share of the samples that count to which the model itself answers the target as they are."""

_EXAMPLES = 6
_BLOCK = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposure:
    """What the attacker of training does and wants at test time.

    Attributes:
        revision: Of what `expose` measures; raised when that changes, so that it is measured again.
        show: Puts the trigger into (b, *shape) inputs in the domain; None without a trigger.
        goal: Label that the attacker wants; None for any wrong one.
        source: Only samples of this class count; None for all.
        only: (k,) int64 rows of the samples that count (`Dataset.rows`); None for all. Accuracy is
            measured on the others as well.
        round: Put inputs with a trigger on the domain's grid (8-bit values).
        attacked: Whether there is an attacker, so that there can be success.
    """

    revision: ClassVar[int] = 8

    show: Callable[[Tensor], Tensor] | None = None
    goal: int | None = None
    source: int | None = None
    only: Tensor | None = None
    round: bool = False
    attacked: bool = True

    @property
    def leads_to(self) -> int | None:
        """Label that the trigger leads to; None without a trigger."""
        return None if self.show is None else self.goal


def expose(
    exposure: Exposure,
    model: Target,
    reference: Target,
    data: Dataset,
    *,
    control: Target | None = None,
    before: Tensor | None = None,
    control_before: Tensor | None = None,
    guarded_by: Guarded | None = None,
    seed: int = 0,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Measure a trained model beside its reference.

    Args:
        exposure: What the attacker does now.
        model: As trained, on whatever the attacker left; defenses in front included.
        reference: Trained without the attack, behind the same defenses.
        data: Samples with true labels that nobody touched.
        control: Trained as the reference from another seed, behind the same defenses, or None.
        before: What `scores` returned for the reference on these samples; asked now if None.
        control_before: The same of the control.
        guarded_by: A monitor of single inputs, where there is a trigger to look for, or None.
        seed: Of what the monitors draw at random, such as windows of traffic that monitors see.
        batch_size: Samples at a time.
        progress: Called with samples done and samples in all.

    Raises:
        UsageError: If there is nothing to measure.
    """
    if len(data) == 0:
        raise UsageError(
            f"{data.name}: there are no samples to measure; raise samples or choose another class"
        )
    blocks: list[dict[str, Tensor]] = []
    if before is None:
        before = scores(reference, data, batch_size=batch_size)
    if control is not None and control_before is None:
        control_before = scores(control, data, batch_size=batch_size)
    targets = [t for t in (model, reference, control) if t is not None]
    modules = [m for t in targets for m in t.modules]
    with guarded(modules, [t.device for t in targets]), torch.no_grad():
        for part in _parts(len(data), batch_size):
            rows, points = _block(exposure, model, reference, data, part, before[part])
            if control is not None and control_before is not None:
                rows |= _control_rows(control, control_before[part], points)
            blocks.append(rows)
            if progress is not None:
                progress(part.stop, len(data))
        table = {name: torch.cat([b[name] for b in blocks]).numpy() for name in blocks[0]}
        examples = _examples(exposure, table, data)
    flags = exposure_flags(
        table,
        data.domain,
        classes=len(data.classes),
        attacked=exposure.attacked,
        goal=exposure.goal,
    )
    measured = _measurements(exposure, table, classes=len(data.classes))
    measured += detection(
        table,
        rng=stream(seed, "monitors/windows"),
        goal=exposure.goal,
        triggered=exposure.show is not None,
    )
    if guarded_by is not None:
        if exposure.show is None:
            raise UsageError("monitor looks for a trigger, and there is none; leave monitor out")
        measured += alarms(
            guarded_by,
            model,
            reference,
            data,
            show=lambda x: _shown(exposure, x, data.domain),
            eligible=table["eligible"],
            rng=stream(seed, "monitors/inputs"),
        )
    shown = 1 if exposure.show is None else 2
    return Evidence(
        measurements=tuple(measured),
        by_class=_by_class(table, classes=len(data.classes)),
        flags=tuple(flags),
        spent={"verifier forward": len(targets) * shown * len(data)},
        samples=table,
        examples=examples,
    )


def scores(target: Target, data: Dataset, *, batch_size: int = 128) -> Tensor:
    """Return (n, outputs) float32 what a model answers to samples, on the CPU."""
    with guarded(target.modules, [target.device]), torch.no_grad():
        return torch.cat(
            [
                target.scores(data.batch(part, device=target.device)).float().cpu()
                for part in _parts(len(data), batch_size)
            ]
        )


def _parts(n: int, batch_size: int) -> Iterator[slice]:
    for begin in range(0, n, batch_size):
        yield slice(begin, min(begin + batch_size, n))


def _block(
    exposure: Exposure,
    model: Target,
    reference: Target,
    data: Dataset,
    part: slice,
    before: Tensor,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the rows of some samples, and these with the trigger, or None without one."""
    x, label, domain = data.batch(part), data.targets[part], data.domain
    clean = model.scores(x.to(model.device)).float().cpu()
    right = predicted(before) == label
    eligible = right.clone()
    if exposure.goal is not None:
        eligible &= label != exposure.goal
    if exposure.source is not None:
        eligible &= label == exposure.source
    if exposure.only is not None:
        eligible &= torch.isin(data.rows[part], exposure.only)
    rows = {
        "row": data.rows[part],
        "label": label,
        "goal": torch.full_like(label, -1 if exposure.goal is None else exposure.goal),
        "reference_label": predicted(before),
        "clean_label": predicted(clean),
        "eligible": eligible,
    }
    attacked, untouched, points = clean, before, None
    if exposure.show is not None:
        points = _shown(exposure, x, domain)
        attacked = model.scores(points.to(model.device)).float().cpu()
        untouched = reference.scores(points.to(reference.device)).float().cpu()
        rows |= {
            "linf": distance(points, x, "linf"),
            "l2": distance(points, x, "l2"),
            "ssim": ssim(points, x, domain),
        }
    rows["attacked_label"] = predicted(attacked)
    rows["reference_attacked_label"] = predicted(untouched)
    rows["success"] = _hit(exposure, rows["attacked_label"], label) & eligible
    rows["reference_success"] = _hit(exposure, rows["reference_attacked_label"], label) & eligible
    certificate = getattr(model, "certificate", None)
    if certificate is not None:
        rows["certified"] = certificate(clean, label)
    if model.outputs != "labels":
        each = torch.arange(len(label))
        probability = model.probabilities(clean)
        rows["clean_true_confidence"] = probability[each, label]
        rows["clean_confidence"] = probability.amax(1)
        rows["clean_rank"] = rank(clean, label)
        shown = model.probabilities(attacked)
        rows["attacked_confidence"] = shown.amax(1)
        if exposure.goal is not None:
            rows["attacked_goal_confidence"] = shown[:, exposure.goal]
    if reference.outputs != "labels":
        rows["reference_confidence"] = reference.probabilities(before).amax(1)
    return rows, points


def _control_rows(control: Target, before: Tensor, points: Tensor | None) -> dict[str, Tensor]:
    """Return what the control answers to samples, and to these with the trigger."""
    answered = {"control": before}
    if points is not None:
        answered["control_attacked"] = control.scores(points.to(control.device)).float().cpu()
    rows = {f"{who}_label": predicted(found) for who, found in answered.items()}
    if control.outputs != "labels":
        for who, found in answered.items():
            rows[f"{who}_confidence"] = control.probabilities(found).amax(1)
    return rows


def _shown(exposure: Exposure, x: Tensor, domain: Domain) -> Tensor:
    assert exposure.show is not None  # noqa: S101 - the caller asked
    points = exposure.show(x).clamp(domain.low, domain.high)
    return round_to_step(points, x, "linf", None, domain) if exposure.round else points


def _hit(exposure: Exposure, predicted_label: Tensor, label: Tensor) -> Tensor:
    if exposure.goal is not None:
        return predicted_label == exposure.goal
    return (predicted_label != label) & (predicted_label >= 0)  # breaking down is no success


def _measurements(
    exposure: Exposure, table: dict[str, np.ndarray], *, classes: int
) -> list[Measurement]:
    """Return the figures from the rows."""
    label, n = table["label"], len(table["label"])
    eligible, success = table["eligible"], table["success"]
    right, was_right = table["clean_label"] == label, table["reference_label"] == label
    out = [
        rate("clean accuracy", int(right.sum()), n),
        rate("accuracy without the attack", int(was_right.sum()), n),
        *_drops(table, "clean", "", classes=classes),
    ]
    if "control_label" in table:
        out += _drops(table, "control", " of another clean model", classes=classes)
    if exposure.attacked:
        out.insert(0, rate("attack success rate", int(success.sum()), int(eligible.sum())))
    if exposure.goal is not None:
        name = "attack success rate without the attack"
        out.append(rate(name, int(table["reference_success"].sum()), int(eligible.sum())))
    if exposure.show is not None and exposure.goal is not None:
        already = int((table["clean_label"][eligible] == exposure.goal).sum())
        out.append(rate(WITHOUT_TRIGGER, already, int(eligible.sum())))
    if classes > TOP and "clean_rank" in table:
        out.append(rate("clean top-5 accuracy", int((table["clean_rank"] < TOP).sum()), n))
    if "certified" in table:
        radii = [float(r) for r in table["certified"].clip(min=0)]
        out.append(quantile("certified poisons", radii, 0.5, "samples"))
    for words, column, chosen, unit in (
        ("confidence in true class, clean", "clean_true_confidence", None, "probability"),
        ("confidence in target class, attacked", "attacked_goal_confidence", None, "probability"),
        ("distance linf", "linf", eligible, "domain units"),
        ("distance l2", "l2", eligible, "domain units"),
        ("ssim", "ssim", eligible, "index"),
    ):
        if column in table:
            values = table[column] if chosen is None else table[column][chosen]
            out.append(mean(words, [float(v) for v in values if np.isfinite(v)], unit))
    return out


def _by_class(table: dict[str, np.ndarray], *, classes: int) -> tuple[Measurement, ...]:
    """Return the share of each class's samples that the model reads right, by label."""
    label, right = table["label"], table["clean_label"] == table["label"]
    return tuple(
        rate(f"clean accuracy of class {c}", int(right[label == c].sum()), int((label == c).sum()))
        for c in range(classes)
    )


def _drops(table: dict[str, np.ndarray], who: str, of: str, *, classes: int) -> list[Measurement]:
    """Return how much less accurate a model is than the reference, on average and by class."""
    label = table["label"]
    was_right, right = table["reference_label"] == label, table[f"{who}_label"] == label
    lost, gained = was_right & ~right, right & ~was_right

    def counted(mask: np.ndarray) -> tuple[int, int, int]:
        return int(lost[mask].sum()), int(gained[mask].sum()), int(mask.sum())

    by_class = [counted(label == c) for c in range(classes)]
    return [
        difference(f"clean accuracy drop{of}", *counted(np.ones(len(label), dtype=bool))),
        largest_difference(f"worst class accuracy drop{of}", by_class),
    ]


def _examples(
    exposure: Exposure, table: dict[str, np.ndarray], data: Dataset
) -> dict[str, np.ndarray]:
    """Return a few samples for pictures: successes first, then what withstood."""
    fooled = np.flatnonzero(table["success"])
    stood = np.flatnonzero(table["eligible"] & ~table["success"])
    position = np.concatenate([fooled, stood])[:_EXAMPLES]
    if exposure.show is None:
        return {}
    clean = data.batch(torch.from_numpy(position))
    return {
        "position": position.astype(np.int64),
        "clean": clean.numpy(),
        "attacked": _shown(exposure, clean, data.domain).numpy(),
        "bounds": np.array([data.domain.low, data.domain.high], dtype=np.float32),
    }
