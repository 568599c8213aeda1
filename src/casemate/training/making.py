"""`Making`: all that decides a model that comes through the training gate, and how it is made.

A campaign makes models in its own process or has worker processes make them; both do it here.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from casemate.models.architecture import title
from casemate.training.gate import defended, poison
from casemate.training.lab import Lab
from casemate.training.loop import train
from casemate.training.poisoned import Poisoned
from casemate.training.stored import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture
    from casemate.training.defended import TrainingDefense
    from casemate.training.gate import Passage
    from casemate.training.lab import Shelf
    from casemate.training.poisoned import Aim, PoisonAttack, SurrogateAttack, Trigger
    from casemate.training.progress import Progress
    from casemate.training.recipe import Recipe
    from casemate.training.stored import StoredModel
    from casemate.training.trained import TrainedModel

__all__ = ["Making", "Order", "Scar", "control_seed"]

_ATTACKER, _DEFENDER, _CONTROL = 1_000_000, 2_000_000, 3_000_000


def control_seed(seed: int) -> int:
    """Return the seed of a model's control.

    Far from the seeds that a campaign names: were it the next one, the control of one seed would be
    the reference of another, and trials over seeds would not be independent.
    """
    return _CONTROL + seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """A model that is to come through the gate.

    Attributes:
        architecture: Of the model.
        recipe: How it is trained.
        seed: Of everything random; attacker and defender have seeds of their own made from it.
        data: The training set as nobody touched it.
        held: Samples that no attacker touches, for the defender, or None.
        known: Inputs that the attacker knows the model will meet, with true labels.
        attack: What is done to the data, or None.
        defense: What stands against it, or None.
        device: Where models are trained.
    """

    architecture: Architecture
    recipe: Recipe
    seed: int
    data: Dataset
    held: Dataset | None = None
    known: Dataset | None = None
    attack: PoisonAttack | SurrogateAttack | None = None
    defense: TrainingDefense | None = None
    device: str = "cpu"

    def lab(
        self,
        whose: Literal["attacker", "defender"],
        shelf: Shelf | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Lab:
        """Return the lab of a party."""
        seeds = _ATTACKER
        if whose == "defender":
            # what trains the model itself does so with the model's own seed
            during = self.defense is not None and self.defense.phase == "during"
            seeds = 0 if during else _DEFENDER
        return Lab(
            architecture=self.architecture,
            recipe=self.recipe,
            seed=seeds + self.seed,
            device=self.device,
            known=self.known if whose == "attacker" else None,
            shelf=shelf,
            progress=progress,
        )

    def check_defense(self) -> None:
        """Raise `UsageError` if the defense foresees that it cannot work."""
        check = getattr(self.defense, "check", None)
        if check is not None:
            check(self.data, self.lab("defender"), self.held)

    def control(self) -> Order:
        """Return the order of the model's control: as it is trained where nobody attacks, anew."""
        return replace(self, attack=None, defense=None, known=None, seed=control_seed(self.seed))

    def train(
        self, data: Dataset, progress: Callable[[Progress], None] | None = None
    ) -> TrainedModel:
        """Return the model trained on a data set, without defense."""
        return train(
            self.architecture,
            self.recipe,
            data,
            seed=self.seed,
            device=self.device,
            progress=progress,
        )

    def poisoned(self, lab: Lab) -> Poisoned | None:
        """Return the data after the attack on them, or None without one."""
        if self.attack is None:
            return None
        return poison(self.attack, self.data, seed=self.seed, lab=lab)

    def defended(
        self, poisoned: Poisoned | None, undefended: Callable[[Dataset], TrainedModel], lab: Lab
    ) -> Passage:
        """Return the model that the defense lets through.

        Args:
            poisoned: The data after the attack, or None without one.
            undefended: Trains the model on a data set as without defense.
            lab: The defender's.
        """
        assert self.defense is not None  # noqa: S101 - the caller asked
        return defended(
            self.defense,
            self.data if poisoned is None else poisoned.dataset,
            torch.empty(0, dtype=torch.int64) if poisoned is None else poisoned.touched,
            undefended,
            seed=self.seed,
            lab=lab,
            clean=self.held,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Scar:
    """What an attack changed, without the data that it left alone.

    Attributes: as those of `Poisoned` and of its data set.
    """

    digest: str
    labels: Tensor
    patched: Tensor | None
    patch: Tensor | None
    touched: Tensor
    trigger: Trigger | None
    aim: Aim | None

    @classmethod
    def of(cls, poisoned: Poisoned) -> Scar:
        """Return what an attack changed."""
        data = poisoned.dataset
        return cls(
            digest=data.digest,
            labels=data.labels,
            patched=data.patched,
            patch=data.patch,
            touched=poisoned.touched,
            trigger=poisoned.trigger,
            aim=poisoned.aim,
        )

    def on(self, clean: Dataset) -> Poisoned:
        """Return the poisoned set that this is of."""
        dataset = replace(
            clean, digest=self.digest, labels=self.labels, patched=self.patched, patch=self.patch
        )
        return Poisoned(
            clean=clean,
            dataset=dataset,
            touched=self.touched,
            trigger=self.trigger,
            aim=self.aim,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Making:
    """A worker's task: the model of an order.

    Attributes:
        order: What is to be made.
        poisoned: The data after the attack, where that is known and a defense comes next.
        attacked: File of the model as the attack left it, where a defense comes next.
    """

    order: Order
    poisoned: Poisoned | None = None
    attacked: Path | None = None

    @property
    def words(self) -> str:
        """What it does, for messages."""
        return f"training {title(self.order.architecture)} on {self.order.data.name}"

    def run(self, shelf: Shelf, progress: Callable[[float], object]) -> tuple[StoredModel, Any]:
        """Return the model; with it what `found` reads: a scar, or the facts of a defense."""
        order = self.order

        def tell(p: Progress) -> None:
            progress(p.step / p.steps)

        if order.defense is None:
            poisoned = order.poisoned(order.lab("attacker", shelf, tell))
            if poisoned is None:
                return order.train(order.data, tell), None
            # by value: what lies in shared memory needs a file for each tensor
            scar = pickle.dumps(Scar.of(poisoned))
            return order.train(poisoned.dataset, tell), scar
        data = order.data if self.poisoned is None else self.poisoned.dataset

        def undefended(kept: Dataset) -> TrainedModel:
            if kept is data and self.attacked is not None:
                return load_model(self.attacked)  # type: ignore[return-value]  # no committee
            return order.train(kept, tell)

        lab = order.lab("defender", shelf, tell)
        passage = order.defended(self.poisoned, undefended, lab)
        return passage.model, passage.facts

    def found(self, content: Any) -> Any:
        """Return what came with the model: a `Poisoned`, the facts of a defense, or None."""
        if self.order.defense is not None or content is None:
            return content
        # ours: a worker of this process wrote it
        scar: Scar = pickle.loads(content)  # noqa: S301
        return scar.on(self.order.data)
