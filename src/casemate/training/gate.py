"""The training gate: data are poisoned and looked through, a model is trained and mended."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from casemate.data.splits import holdout
from casemate.errors import UsageError
from casemate.models.accuracy import accuracy
from casemate.random import stream
from casemate.stats import Measurement, area_under_curve, rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from casemate.data.dataset import Dataset
    from casemate.training.defended import (
        Repairer,
        Sanitizer,
        Trainer,
        TrainingDefense,
    )
    from casemate.training.lab import Lab
    from casemate.training.poisoned import PoisonAttack, Poisoned, SurrogateAttack
    from casemate.training.stored import StoredModel
    from casemate.training.trained import TrainedModel

__all__ = ["LEARNED", "Passage", "check_attack", "defended", "hold_out", "learned", "poison"]

LEARNED = "poisoned samples learned"
_MOST_LEARNED = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """What came through the gate.

    Attributes:
        model: To deploy.
        facts: What the defense did: "measurements" (as dicts), "notes", "models" and "samples" that
            its lab trained, "seconds" beside the training of the model; plain JSON data.
    """

    model: StoredModel
    facts: dict[str, Any]


def check_attack(attack: PoisonAttack | SurrogateAttack, data: Dataset, known: Dataset) -> None:
    """Raise `UsageError` if an attack does not fit the data, or knows no input to aim at."""
    attack.check(data)
    check_known = getattr(attack, "check_known", None)
    if check_known is not None:
        check_known(data, known)


def hold_out(data: Dataset, clean: int, seed: int) -> tuple[Dataset, Dataset | None]:
    """Return the samples to train on and about `clean` that no attacker touches; None for none.

    Where samples come in groups (`Dataset.groups`), whole groups are held out, and how many
    samples that makes depends on their sizes.

    Raises:
        UsageError: If there are not enough samples for both.
    """
    if not clean:
        return data, None
    if clean >= len(data):
        raise UsageError(
            f"clean asks for {clean} samples, but {data.name} has {len(data)}; ask for fewer"
        )
    rest, held = holdout(data, clean / len(data), seed)
    return rest, held


def poison(
    attack: PoisonAttack | SurrogateAttack, data: Dataset, *, seed: int, lab: Lab
) -> Poisoned:
    """Return a training set after an attack.

    Args:
        attack: The attack; the lab is handed to it only if it declares a surrogate.
        data: The training set.
        seed: Of the attack's random choices.
        lab: The attacker's.

    Raises:
        UsageError: If a parameter of the attack does not fit the data.
    """
    rng = stream(seed, "training/attack")
    if getattr(attack, "surrogate", False):
        return cast("SurrogateAttack", attack).poison(data, rng, lab)
    return cast("PoisonAttack", attack).poison(data, rng)


def defended(
    defense: TrainingDefense,
    data: Dataset,
    touched: torch.Tensor,
    undefended: Callable[[Dataset], TrainedModel],
    *,
    seed: int,
    lab: Lab,
    clean: Dataset | None,
) -> Passage:
    """Return the model that a defense lets through, and what the defense did.

    Args:
        defense: What stands at the gate.
        data: The training set as the defender gets it.
        touched: (m,) positions that an attacker changed; for the figures only.
        undefended: Trains the model on a data set as without defense.
        seed: Of the defense's random choices.
        lab: The defender's.
        clean: Samples known to be clean, or None.

    Raises:
        UsageError: If the defense does not fit the data or the model.
    """
    rng = stream(seed, "training/defense")
    measured: list[Measurement] = []
    model: StoredModel
    started = time.perf_counter()
    if defense.phase == "before":
        sanitized = cast("Sanitizer", defense).sanitize(data, rng, lab, clean)
        seconds = time.perf_counter() - started
        model = undefended(sanitized.dataset)
        kinds = data.targets if sanitized.scores_by_class else None
        measured = found(sanitized.suspects, touched, sanitized.scores, kinds)
        notes = dict(sanitized.notes)
    else:
        if defense.phase == "during":
            repaired = cast("Trainer", defense).train(data, rng, lab, clean)
        else:
            before = undefended(data)
            started = time.perf_counter()
            repaired = cast("Repairer", defense).repair(before, rng, lab, clean)
        seconds = time.perf_counter() - started
        model, notes = repaired.model, dict(repaired.notes)
        if repaired.score is not None or repaired.found is not None:
            notes |= {"score": repaired.score, "found": repaired.found}
        if repaired.suspects is not None:
            measured = found(repaired.suspects, touched)
    return Passage(
        model=model,
        facts={
            "measurements": [asdict(m) for m in measured],
            "notes": notes,
            "models": lab.models,
            "samples": lab.samples,
            "seconds": seconds,
        },
    )


def found(
    suspects: torch.Tensor,
    touched: torch.Tensor,
    scores: torch.Tensor | None = None,
    kinds: torch.Tensor | None = None,
) -> list[Measurement]:
    """Return how well a defense told what was touched from what was not.

    Args:
        suspects: (m,) positions that it suspects.
        touched: (t,) positions that an attacker changed.
        scores: (n,) how suspicious each sample is, NaN where it was not scored; None without.
        kinds: (n,) int64 labels where scores compare samples of one class only: each sample then
            counts by its rank in its class, and only in classes of which something was touched.
    """
    hits = int(torch.isin(suspects, touched).sum())
    measured = [
        rate("precision of removal", hits, len(suspects)),
        rate("recall of removal", hits, len(touched)),
    ]
    if scores is not None:
        scored = scores.isfinite()
        bad = torch.zeros_like(scored)
        bad[touched] = True
        if kinds is not None:
            scored &= torch.isin(kinds, kinds[scored & bad])
            scores = _ranks(scores, kinds, scored)
        measured.append(
            area_under_curve(
                "area under the curve",
                scores[scored & bad].tolist(),
                scores[scored & ~bad].tolist(),
            )
        )
    return measured


def _ranks(scores: torch.Tensor, kinds: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Return (n,) mean ranks of samples in their class, as a share of it; NaN if unscored."""
    ranks = torch.full_like(scores, torch.nan, dtype=torch.float64)
    for kind in torch.bincount(kinds[scored]).nonzero().flatten():
        mine = scored & (kinds == kind)
        _, place, counts = torch.unique(scores[mine], return_inverse=True, return_counts=True)
        middle = counts.cumsum(0) - (counts - 1) / 2  # of equal scores
        ranks[mine] = (middle / len(place))[place].to(ranks.dtype)
    return ranks


def learned(model: StoredModel, poisoned: Poisoned, *, device: torch.device | str) -> Measurement:
    """Return how much of the poison the model gives the labels that it carries.

    A model that did not learn its poison was not attacked as it should have been. Where labels were
    changed only samples with a changed label count: covers, which keep theirs, are read right by
    any good model.
    """
    some = poisoned.relabeled
    if not len(some):
        some = poisoned.touched
    if len(some) > _MOST_LEARNED:  # spread over the whole set, which may be sorted by class
        some = some[torch.linspace(0, len(some) - 1, _MOST_LEARNED).long()]
    seen = poisoned.dataset.select(some, how="touched")
    measured = accuracy(model.target(device), seen)
    return rate(LEARNED, round((measured.value or 0.0) * measured.n), measured.n)
