"""T-BFA: flips that lead inputs to a class (Rakin et al., TPAMI 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from casemate.errors import ParameterError, UsageError
from casemate.hardware.attacks.objectives import AllToOne, OneToOne, StealthyOneToOne
from casemate.hardware.attacks.progressive import ProgressiveSearch
from casemate.hardware.attacks.readings import Aim
from casemate.hardware.parameters import (
    check_choice,
    check_number,
    check_whole,
)
from casemate.hardware.placement import Everywhere
from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel

if TYPE_CHECKING:
    from casemate.hardware.attacks.constraint import Constraint
    from casemate.hardware.attacks.objectives import Objective
    from casemate.hardware.attacks.outcome import Outcome
    from casemate.hardware.attacks.readings import Reading
    from casemate.hardware.attacks.samples import Samples
    from casemate.hardware.implementation import Implementation
    from casemate.random import Stream

__all__ = ["TBFA"]

Variant = Literal["N to 1", "1 to 1", "1 to 1 stealthy"]

_ALL: Variant = "N to 1"
_ONE: Variant = "1 to 1"
_STEALTHY: Variant = "1 to 1 stealthy"


@dataclass(frozen=True, kw_only=True)
class TBFA:
    """Flips of weight bits after which inputs get the class that the attacker wants.

    Rakin, He, Li, Yao, Chakrabarti and Fan, "T-BFA: targeted bit-flip adversarial weight attack",
    TPAMI 2021 (arXiv 2007.12336): the progressive bit search of BFA with targeted objectives.

    Ours: what `ProgressiveSearch` says, so that a flip that does not help is not made, where the
    authors' code makes it. The clean term of the stealthy variant is in the gradient
    (`StealthyOneToOne`); in the authors' code it is not. The success of "N to 1" is of inputs of
    all classes but the target's, whose own inputs the authors count too. The attacker's inputs come
    from the pool, which should hold no evaluation data; the authors draw both from the test set.
    Their networks have weights in steps of max|w| / 63.5, so that a flip reaches twice as far; here
    the number format decides.

    Attributes:
        target: Label that the attacker wants.
        source: Label of the inputs that are to get it; None for "N to 1", which leads all to it.
        variant: "N to 1", "1 to 1", or "1 to 1 stealthy", which keeps all other inputs as they are.
        balance: Weight of these in the stealthy objective; 1 in the authors' code.
        budget: Flips at most; 40 in the authors' code.
        success: Share of the evaluation data's inputs in question that get the target, at which the
            goal is reached, in (0, 1]; 0.9999 in the authors' code.
        batch: How many inputs of the source, or of all classes, the attacker uses; None for the
            authors' 500, or 256 for "N to 1".
        others: How many inputs of other classes the stealthy variant uses; 500 in their code.
        candidates: How many bits of each layer are tried in an iteration.
        flip_back: Whether a bit may flip twice.
        layers: Names of the layers whose weights may flip; all if omitted.
    """

    target: int
    source: int | None = None
    variant: Variant = "N to 1"
    balance: float = 1.0
    budget: int = 40
    success: float = 0.9999
    batch: int | None = None
    others: int = 500
    candidates: int = 1
    flip_back: bool = False
    layers: tuple[str, ...] | None = None

    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="hardware-faults",
        stage=Stage.HARDWARE,
        goals=(Goal.INTEGRITY_TARGETED,),
        access=Access.GRADIENTS,
        knowledge=Knowledge.WHITE_BOX,
        budget="number of bits flipped in memory",
    )
    revision: ClassVar[int] = 1
    has_goal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, (_ALL, _ONE, _STEALTHY))
        check_number("balance", self.balance, low=0.0)
        check_whole("budget", self.budget)
        _ = self._among  # refuses what is no list of names
        check_number("success", self.success, low=1e-6, high=1.0)
        if self.batch is not None:
            check_whole("batch", self.batch)
        check_whole("others", self.others)
        check_whole("candidates", self.candidates)
        if (self.source is None) != (self.variant == _ALL):
            given = "is missing" if self.source is None else f"is {self.source}"
            needs = "needs a class" if self.source is None else "leads all classes to the target"
            raise ParameterError("source", f'{given}, but the variant "{self.variant}" {needs}')
        _ = self.aim  # refuses what are no two classes

    @property
    def aim(self) -> Aim:
        """Which inputs are to get which label."""
        return Aim(target=self.target, source=self.source)

    def check(self, deployed: Implementation) -> None:
        """Raise `UsageError` if a layer or a class does not exist."""
        self.aim.check(deployed.graph.nodes[-1].shape[0])
        self._among.regions(deployed.memory)

    def wants(self, reading: Reading) -> bool:
        """Return whether enough inputs get the target."""
        return (reading.success or 0.0) >= self.success

    def forwards(self, layers: int, images: int) -> int:
        """Return about how many inputs run through the model at most.

        Args:
            layers: Tensors of weights that the model has.
            images: Of the evaluation data.
        """
        batch = (self.batch or 500) + (self.others if self.variant == _STEALTHY else 0)
        return self.budget * (images + (layers * self.candidates + 2) * batch)

    def run(
        self,
        deployed: Implementation,
        pool: Samples,
        evaluation: Samples,
        rng: Stream,
        *,
        constraint: Constraint | None = None,
    ) -> Outcome:
        """Return the flips that lead inputs to the target.

        Args:
            deployed: Left as it is.
            pool: What the attacker draws inputs from; none of it should be evaluation data.
            evaluation: What the model is read on.
            rng: Chooses the inputs.
            constraint: Which bits can flip; all if omitted.

        Raises:
            UsageError: If a layer or a class does not exist, or the data hold no inputs of it.
        """
        self.check(deployed)
        regions = self._among.regions(deployed.memory)
        self.aim.check_inputs(evaluation.labels)
        search = ProgressiveSearch(
            objective=self._objective(),
            budget=self.budget,
            candidates=self.candidates,
            flip_back=self.flip_back,
        )
        return search.run(
            deployed,
            self._batch(pool, rng),
            regions,
            evaluation=evaluation,
            goal=self.wants,
            aim=self.aim,
            constraint=constraint,
        )

    def _objective(self) -> Objective:
        if self.source is None:
            return AllToOne(target=self.target)
        if self.variant == _ONE:
            return OneToOne(source=self.source, target=self.target)
        return StealthyOneToOne(source=self.source, target=self.target, balance=self.balance)

    def _batch(self, pool: Samples, rng: Stream) -> Samples:
        """Return the attacker's inputs."""
        if self.source is None:
            return pool.drawn(self.batch or 256, rng.child("all"))
        mine = pool.labels == self.source
        if not bool(mine.any()):
            raise UsageError(
                f"the attacker's inputs hold none of class {self.source}, the source; add some"
            )
        batch = pool.at(mine).drawn(self.batch or 500, rng.child("source"))
        if self.variant == _ONE:
            return batch
        if bool(mine.all()):
            raise UsageError(
                "the attacker's inputs are all of the source, but the stealthy variant keeps those "
                "of other classes as they are; add some"
            )
        return batch + pool.at(~mine).drawn(self.others, rng.child("others"))

    @property
    def _among(self) -> Everywhere:
        return Everywhere(layers=self.layers)
