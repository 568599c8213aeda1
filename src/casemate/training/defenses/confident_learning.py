"""Confident learning: labels that a model which has not seen them contradicts (1911.00068)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch

from casemate.data.dataset import digest_arrays
from casemate.data.splits import folds
from casemate.models.hyperparameters import choice, whole
from casemate.threats import Stage
from casemate.training.defended import Sanitized
from casemate.training.defenses.removal import by_class, highest, removed, spared

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.defended import Phase
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["ConfidentLearning", "confident_joint", "margins", "mislabeled", "noise"]

Method = Literal["confusion", "joint", "class", "noise-rate", "both"]

_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class ConfidentLearning:
    """Estimates from cross-validation how many labels of a class belong to another, and finds them.

    Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels",
    JAIR 2021 (arXiv 1911.00068, section 3). Each sample gets class probabilities of a
    model that was trained without its fold. The confident joint counts samples labeled i whose
    likeliest class among those above their threshold t_j is j, where t_j is the mean probability
    of j over samples labeled j (equations 1 and 2); its rows are scaled to the sizes of the classes
    (equation 3). The methods are the paper's five:

    - "confusion": samples whose likeliest class is not their label.
    - "joint": samples that the confident joint counts off its diagonal.
    - "class": of each class, as many as the scaled joint has off the diagonal of its row, those
      with the lowest probability of their label.
    - "noise-rate": for each i and j, as many samples labeled i as the scaled joint has there, those
      with the largest probability of j less that of i.
    - "both": samples that the last two agree on.

    Ours: folds are stratified and keep groups together; numbers of samples are rounded; a class
    that nobody is confident of has no noise; "relabel" gives a suspect the likeliest of the other
    classes. Scores are the margin: the greatest probability of another class less that of the
    label, from -1 to 1.

    Attributes:
        folds: Of the cross-validation, at least 2; a model is trained for each.
        method: "confusion", "joint", "class", "noise-rate" or "both".
        action: "remove" or "relabel". Either way each class keeps at least one of its samples, the
            least suspicious one.
    """

    folds: int = 4
    method: Method = "noise-rate"
    action: Literal["remove", "relabel"] = "remove"

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "before"
    needs_clean: ClassVar[bool] = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        whole("confident-learning.folds", self.folds, low=2)
        choice("confident-learning.method", self.method, get_args(Method))
        choice("confident-learning.action", self.action, ("remove", "relabel"))

    @property
    def trainings(self) -> int:
        """How many models of its own it trains."""
        return self.folds

    def check(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> None:
        """Raise `UsageError` if the data do not fill the folds."""
        folds(dataset, self.folds, 0)

    def sanitize(
        self,
        dataset: Dataset,
        rng: Stream,
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - no clean samples are needed
    ) -> Sanitized:
        """Return the set without its suspects, or with other labels for them."""
        found = self._probabilities(dataset, rng.child("folds"), lab)
        labels = dataset.targets
        suspicious = mislabeled(found, labels, self.method)
        scores = margins(found, labels).amax(1)
        name = ("confident-learning", self.revision, self)
        notes = {"noise": noise(confident_joint(found, labels), labels).tolist()}
        if self.action == "remove":
            return removed(dataset, suspicious, scores, how=name, notes=notes)
        suspects = spared(suspicious, scores, labels).nonzero().flatten()
        if len(suspects):
            others = margins(found[suspects], labels[suspects]).argmax(1)
            how = (*name, digest_arrays(suspects))
            dataset = dataset.replaced(suspects, labels=others, how=how)
        return Sanitized(dataset=dataset, suspects=suspects, scores=scores.float(), notes=notes)

    def _probabilities(self, dataset: Dataset, rng: Stream, lab: Lab) -> Tensor:
        """Return (n, classes) float64 probabilities by models that have not seen the sample."""
        fold = folds(dataset, self.folds, rng.key)
        found = torch.empty(len(dataset), len(dataset.classes), dtype=torch.float64)
        for i in range(self.folds):
            seen, unseen = (m.nonzero().flatten() for m in (fold != i, fold == i))
            how = ("confident-learning/fold", self.revision, self.folds, rng.key, i)
            model = lab.trained(dataset.select(seen, how=how), number=i)
            found[unseen] = _predicted(model, dataset, unseen, lab.device)
        return found


def confident_joint(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the confident joint, the paper's equation 1.

    Args:
        probabilities: (n, classes), each row by a model that has not seen the sample.
        labels: (n,) int64, as given.

    Returns:
        (classes, classes) int64, row: label, column: class that is likelier.
    """
    classes = probabilities.shape[1]
    counted, other = _confident(probabilities, labels)
    pairs = labels[counted] * classes + other[counted]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def noise(joint: Tensor, labels: Tensor) -> Tensor:
    """Return how many labels are estimated wrong: (classes, classes) int64, diagonal of zeros.

    This is n times the paper's equation 3: rows are scaled to the sizes of the classes.
    """
    sizes = torch.bincount(labels, minlength=len(joint))
    scaled = joint.double() * (sizes / joint.sum(1).clamp(min=1))[:, None]
    return scaled.round().long().fill_diagonal_(0)


def margins(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return (n, classes) probability less that of the label; -inf at the label itself."""
    own = probabilities.gather(1, labels[:, None])
    return (probabilities - own).scatter(1, labels[:, None], -torch.inf)


def mislabeled(probabilities: Tensor, labels: Tensor, method: Method) -> Tensor:
    """Return (n,) bool, the labels that a method takes for wrong.

    Args:
        probabilities: (n, classes), as for `confident_joint`.
        labels: (n,) int64.
        method: As for `ConfidentLearning`.
    """
    if method == "confusion":
        return probabilities.argmax(1) != labels
    if method == "joint":
        counted, other = _confident(probabilities, labels)
        return counted & (other != labels)
    wrong = noise(confident_joint(probabilities, labels), labels)
    over = margins(probabilities, labels)
    doubt = -probabilities.gather(1, labels[:, None]).squeeze(1)
    by_rate, by_doubt = (torch.zeros(len(labels), dtype=torch.bool) for _ in range(2))
    for label, mine in by_class(labels):
        by_doubt[mine] = highest(doubt[mine], int(wrong[label].sum()))
        for other in wrong[label].nonzero().flatten().tolist():
            by_rate[mine] |= highest(over[mine, other], int(wrong[label, other]))
    return {"class": by_doubt, "noise-rate": by_rate, "both": by_doubt & by_rate}[method]


def _confident(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,) bool, who is above any threshold, and (n,) int64, the likeliest such class."""
    thresholds = torch.full((probabilities.shape[1],), torch.inf, dtype=probabilities.dtype)
    for label, mine in by_class(labels):
        thresholds[label] = probabilities[mine, label].mean()
    above = probabilities >= thresholds
    return above.any(1), probabilities.masked_fill(~above, -torch.inf).argmax(1)


def _predicted(
    model: TrainedModel, dataset: Dataset, positions: Tensor, device: torch.device | str
) -> Tensor:
    """Return (m, classes) float64 probabilities of some samples, on the CPU."""
    target = model.target(device)
    found = []
    with torch.no_grad():
        for begin in range(0, len(positions), _BATCH):
            x = dataset.batch(positions[begin : begin + _BATCH], device=device)
            found.append(target.scores(x).double().softmax(1).cpu())
    return torch.cat(found)
