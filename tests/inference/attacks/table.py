"""Every attack with the models that it is run through; a new attack is a row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
from casemate.inference.attacks.pgd import PGD

if TYPE_CHECKING:
    from casemate.inference.jobs import Stepper

__all__ = ["MODELS", "ROWS", "Row"]

MODELS = ("digits", "gray", "color", "features", "preprocessed", "probabilities", "black box")
WHITE = tuple(m for m in MODELS if m != "black box")


@dataclass(frozen=True)
class Row:
    """An attack and what may be expected of it.

    Attributes:
        name: As it is registered, and what sets this row apart.
        attack: The attack.
        models: Ids of the models that it can be run against.
        random: Whether another seed gives another point.
        directed: Whether it must beat noise of the same size.
    """

    name: str
    attack: Stepper
    models: tuple[str, ...] = WHITE
    random: bool = False
    directed: bool = True

    @property
    def registered(self) -> str:
        return self.name.split("/")[0]


ROWS = (
    Row("fgsm/linf", FGSM(epsilon=0.1)),
    Row("fgsm/l2", FGSM(epsilon=0.5, norm="l2")),
    Row("bim/linf", BIM(epsilon=0.1)),
    Row("bim/l2", BIM(epsilon=0.5, norm="l2", steps=8)),
    Row("bim/margin", BIM(epsilon=0.1, loss="margin")),
    Row("pgd/linf", PGD(epsilon=0.1, steps=8), random=True),
    Row("pgd/l2", PGD(epsilon=0.5, norm="l2", steps=8), random=True),
    Row("pgd/restarts", PGD(epsilon=0.1, steps=4, restarts=3), random=True),
    Row("pgd/clean start", PGD(epsilon=0.1, steps=8, random_start=False)),
    Row("pgd/margin", PGD(epsilon=0.1, steps=8, loss="margin"), random=True),
    Row("lbfgs", LBFGS(searches=5, iterations=15)),
    Row("uniform-noise/linf", UniformNoise(epsilon=0.1, draws=2), MODELS, True, False),
    Row("uniform-noise/l2", UniformNoise(epsilon=0.5, norm="l2"), MODELS, True, False),
    Row("gaussian-noise/linf", GaussianNoise(epsilon=0.1), MODELS, True, False),
    Row("gaussian-noise/l2", GaussianNoise(epsilon=0.5, norm="l2", draws=2), MODELS, True, False),
)
