"""Checks of the scores that the model gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.inference.checks.problem import Problem
from casemate.inference.health import looks_like_probabilities

if TYPE_CHECKING:
    from casemate.inference.checks.probe import Probe

__all__ = ["constant", "not_finite", "probabilities"]

_TOLERANCE = 1e-2
"""How far a row of probabilities may be from a sum of 1: half precision is coarse."""


def not_finite(probe: Probe) -> list[Problem]:
    """Scores must be finite."""
    bad = ~probe.scores.isfinite().all(1)
    if not bool(bad.any()):
        return []
    return [
        Problem(
            id="not-finite",
            severity="error",
            message=f"the model gave NaN or infinite scores for {int(bad.sum())} of {len(bad)} "
            "samples",
            remedy="look for NaN in its weights and for overflow in half precision",
        )
    ]


def constant(probe: Probe) -> list[Problem]:
    """Predictions must depend on the input, where the samples are of several classes."""
    labels, true = set(probe.predicted.tolist()), set(probe.y.tolist())
    if len(labels) > 1 or len(true) == 1 or not bool(probe.scores.isfinite().all()):
        return []
    (label,) = labels
    same = bool((probe.scores == probe.scores[0]).all())
    return [
        Problem(
            id="constant",
            severity="error",
            message=f"the model answers class {label} for each of {len(probe.y)} samples of "
            f"{len(true)} classes{', always with the same scores' if same else ''}",
            remedy="check that the weights are the trained ones and that inputs reach the model in "
            "the range that it was trained on",
        )
    ]


def probabilities(probe: Probe) -> list[Problem]:
    """Scores must be what the model declares: logits or probabilities."""
    scores = probe.scores[probe.scores.isfinite().all(1)]
    if not len(scores) or probe.target.outputs == "labels":
        return []
    if probe.target.outputs == "logits":
        # One sigmoid output for two classes: the target made it (0, p).
        one = scores.shape[1] == 2 and not bool(scores[:, 0].any())  # noqa: PLR2004 - two classes
        sigmoid = one and bool(((scores[:, 1] >= 0) & (scores[:, 1] <= 1)).all())
        if not sigmoid and not looks_like_probabilities(scores):
            return []
        return [
            Problem(
                id="probabilities",
                severity="error",
                message="the outputs are declared logits but all lie in [0, 1]"
                + ("" if sigmoid else " and sum to 1 for each sample")
                + ", so a second softmax would hide the gradients",
                remedy="return the values before the softmax or sigmoid, or declare "
                "outputs: probabilities",
            )
        ]
    sums = scores.sum(1)
    outside = int(((scores < -_TOLERANCE) | (scores > 1 + _TOLERANCE)).any(1).sum())
    off = int(((sums - 1).abs() > _TOLERANCE).sum())
    if not outside and not off:
        return []
    return [
        Problem(
            id="not-probabilities",
            severity="error",
            message=f"the outputs are declared probabilities, but for {max(outside, off)} of "
            f"{len(scores)} samples they leave [0, 1] or do not sum to 1 (sums run from "
            f"{float(sums.min()):.3g} to {float(sums.max()):.3g})",
            remedy="declare outputs: logits, or end the model in a softmax",
        )
    ]
