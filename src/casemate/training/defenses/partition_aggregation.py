"""Deep partition aggregation: a vote that few poisoned samples cannot turn (arXiv 2006.14768)."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import current_process
from typing import TYPE_CHECKING, ClassVar

import torch

from casemate.data.dataset import digest_arrays
from casemate.errors import ParameterError
from casemate.identity import key
from casemate.models.hyperparameters import whole
from casemate.random import stream
from casemate.threats import Stage
from casemate.training.committee import Committee
from casemate.training.defended import Phase, Repaired
from casemate.training.defenses.own_training import digest_of
from casemate.training.ensemble import Job, train_many

if TYPE_CHECKING:
    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.random import Stream
    from casemate.training.lab import Lab

__all__ = ["PartitionAggregation", "hashes", "parts"]

_FEWEST = 2
_AMPLE = 25  # samples a part on average
_BLOCK = 2048
_MOST = 10_000
_LOW_31 = (1 << 31) - 1  # what is left of 64 bits that are shifted right by 33, without their sign
_MIX = -0x00AE502812AA7333  # the first multiplier of MurmurHash3's finalizer, as a signed number


@dataclass(frozen=True, kw_only=True)
class PartitionAggregation:
    """As many models as parts of the data, each trained on one part, and a plurality vote.

    Levine and Feizi, "Deep partition aggregation: provable defenses against general poisoning
    attacks", ICLR 2021 (arXiv 2006.14768). Which part a sample is in depends on that
    sample alone, and a part's model on that part alone, so each sample that an attacker inserts or
    removes turns one vote at most. `Committee.target` gives votes and certificates; theorem 1 is
    in `casemate.training.committee.certified`.

    A part is chosen by a hash of the input (the paper sums pixel values), so that copies of an
    input stay together and a sample whose label alone is changed counts once. One whose input is
    changed counts twice: it is removed from one part and inserted into another. Within a part
    samples are in the order of their hashes and labels, whatever their order in the data.

    Ours: a part of fewer than two samples is refused, and so is not covered by the guarantee.
    Training is the recipe's on each part: small parts want more epochs.

    Attributes:
        partitions: Models, from 1 to 10,000; k of the paper, which takes 50 to 1,000 on CIFAR-10
            and 1,200 and 3,000 on MNIST.
    """

    partitions: int = 50

    stage: ClassVar[Stage] = Stage.TRAINING
    phase: ClassVar[Phase] = "during"
    needs_clean: ClassVar[bool] = False
    committee: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    measures: ClassVar[tuple[str, ...]] = ("certified poisons",)

    def __post_init__(self) -> None:
        whole("partitions", self.partitions, low=1, high=_MOST)

    def check(
        self,
        dataset: Dataset,
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> None:
        """Raise `UsageError` if a part of the data as they are is too small to train on.

        An input that poison changes moves to another part, which fills such a one by luck only.
        """
        # hashing takes a while, and among so many a part comes out too small only of copies
        if len(dataset) < _AMPLE * self.partitions:
            self._divided(dataset)

    def train(
        self,
        dataset: Dataset,
        rng: Stream,  # noqa: ARG002 - what a part's model depends on must not depend on the others
        lab: Lab,
        clean: Dataset | None = None,  # noqa: ARG002 - needs none
    ) -> Repaired:
        """Return the committee."""
        divided = self._divided(dataset)
        jobs = [
            Job(
                architecture=lab.architecture,
                recipe=lab.recipe,
                # named by what is in it and by nothing else of the data set
                data=dataset.select(part, how=("part", digest_arrays(part))),
                seed=lab.seed_of(i),
            )
            for i, part in enumerate(divided)
        ]
        members = train_many(
            jobs,
            device=lab.device,
            # a daemon may not have children
            workers=1 if current_process().daemon else None,
        )
        lab.count(len(jobs), sum(job.work for job in jobs))
        return Repaired(
            model=Committee(
                members=tuple(members),
                digest=key("committee", digest_of(self, dataset, lab)),
            ),
            notes={
                "partitions": self.partitions,
                "smallest partition": min(len(p) for p in divided),
            },
        )

    def _divided(self, dataset: Dataset) -> list[Tensor]:
        """Return the positions of each part's samples.

        Raises:
            UsageError: If a part is too small to train on.
        """
        divided = parts(dataset, self.partitions)
        smallest = min(len(p) for p in divided)
        if smallest < _FEWEST:
            raise ParameterError(
                "partitions",
                f"is {self.partitions}, which leaves a part of {dataset.name} with "
                f"{smallest} samples, but training needs {_FEWEST}; use fewer partitions",
            )
        return divided


def parts(dataset: Dataset, count: int) -> list[Tensor]:
    """Return the positions of each part's samples, in an order that depends on them alone."""
    hashed, labels = hashes(dataset), dataset.targets
    order = labels.argsort(stable=True)
    order = order[hashed[order].argsort(stable=True)]
    where = hashed[order].remainder(count)  # of the sign of the divisor
    order = order[where.argsort(stable=True)]
    return list(torch.split(order, torch.bincount(where, minlength=count).tolist()))


def hashes(dataset: Dataset) -> Tensor:
    """Return (n,) int64 hashes of the inputs, each of that input's values alone.

    The bits of a value times a fixed random odd number are summed modulo 2**64 and mixed.
    """
    size = dataset.domain.size
    factors = stream(0, "partition aggregation/hash").torch()
    weights = torch.randint(-(2**63), 2**63 - 1, (size,), generator=factors) | 1
    out = torch.zeros(len(dataset), dtype=torch.int64)
    for begin in range(0, len(dataset), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        values = dataset.batch(part).flatten(1).add_(0.0)  # -0 becomes 0
        out[part] = values.view(torch.int32).to(torch.int64) @ weights
    for _ in range(2):  # low bits of the sum depend on low bits of the values only
        out ^= (out >> 33) & _LOW_31
        out *= _MIX
    return out ^ ((out >> 33) & _LOW_31)
