"""The low-impact attack: most success for least harm to accuracy, with few and faint poisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from casemate.errors import UsageError
from casemate.models.architecture import skeleton
from casemate.models.hyperparameters import choice, number, whole
from casemate.registry import get
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import (
    BACKDOOR_BY_SURROGATE,
    check_backdoor,
    check_shares,
)
from casemate.training.attacks.hosts import HOSTS, Hosts
from casemate.training.attacks.perturbation import Perturbation
from casemate.training.attacks.rehearsable import check_rehearsable
from casemate.training.attacks.workshop import Workshop
from casemate.training.passes import Passes

if TYPE_CHECKING:
    from casemate.data.dataset import Dataset
    from casemate.models.architecture import Architecture
    from casemate.random import Stream
    from casemate.threats import ThreatModel
    from casemate.training.lab import Lab
    from casemate.training.poisoned import Poisoned

__all__ = ["LowImpact"]

Start = Literal["search", "checkerboard", "random"]
Own = Literal["victim", "lenet", "vgg", "resnet", "mlp"]


@dataclass(frozen=True, kw_only=True)
class LowImpact:
    """A backdoor that is searched for on surrogates, under bounds on what it may cost and show.

    The seed paper (Khalid et al., FIT 2018, arXiv 1811.01463) proposes an attack on training that
    hardly moves inference accuracy; its text is not at hand, so the definition is ours. Maximize
    the share of inputs that the trigger leads to the target, subject to: clean accuracy drops by at
    most `delta`, that of no class by more than `delta_class`, the trigger stays within `epsilon`
    (and `ssim`), and no more than `amount` samples are touched. The attacker has the training data
    and no access to the victim.

    The trigger is a universal perturbation towards the target (after Moosavi-Dezfooli et al.,
    "Universal adversarial perturbations", CVPR 2017, arXiv 1610.08401), found by ascent on the
    sign of the gradient over several surrogates: what already leans towards the target takes few
    examples to learn. Poisoned images show a part of it only, so that it acts more strongly at test
    time than anything in the training set. In each round the attacker rehearses: surrogates are
    trained on the poison, drops are tested one-sided at 95 % on data held out from them, and the
    budget is halved if a bound may be broken. From one round to the next the trigger is fitted to
    the surrogates that saw poison; the last round tests the trigger that is planted. What the test
    speaks of are these surrogates: what another training would cost, only several victims tell.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: Most samples to poison, of all classes but the target.
        epsilon: Most that the trigger changes a value at test time, as a share of the domain's
            width, in (0, 1].
        strength: Part of the trigger that poisoned images show, in (0, 1].
        ssim: Least mean structural similarity of inputs with the trigger to those without, in
            (0, 1); the trigger is weakened until it is kept. None sets no bound.
        delta: Most that clean accuracy may drop, in (0, 1]. With `rounds`, a tenth of the data has
            to be enough to show it even if none is lost: 598 samples for 0.005 (so 5,980 in all),
            299 for 0.01, 59 for 0.05.
        delta_class: Most that the accuracy of any class may drop, in (0, 1]. With `rounds`, a tenth
            of the rarest class has to be enough as well: 127 samples for 0.05 where there are ten
            classes (so 1,270 of each), 177 where there are 43; 1 asks for none.
        start: The trigger before any rehearsal: "search" for what a search on surrogates that saw
            no poison finds, "random" for random signs, which say what the search is worth, or a
            "checkerboard" of single pixels, in color of single channels too: the highest frequency
            that images can hold, which natural ones hardly contain, so that a clean model does not
            answer to it and a small kernel learns it from few examples.
        hosts: Which images are poisoned: "random", those whose label a surrogate is surest of
            ("confident") or least sure of ("doubtful"), as many of each class ("spread"), of each
            class those that surrogates most often forget while they are trained ("forgotten", after
            Toneva et al., ICLR 2019, arXiv 1812.05159), or of each class those that the surrogates
            keep farthest from the target in spite of the trigger ("resistant"), or those on which
            the surrogates of the last rehearsal can hardly decide between the target and another
            class ("borderline"): easier ones teach little, and harder ones are not learned. The
            last four take one image of a group, such as a track of pictures of one sign, before a
            second one.
        architecture: Of the surrogates: "victim" for the victim's own, or another's name.
        ensemble: Surrogates, at least 1.
        rounds: Of rehearsal, at least 0; none takes the surrogates trained on clean data as they
            are and tests no bound on accuracy.
        steps: Of each search for a trigger, at least 1, or 0 to keep a checkerboard or random signs
            as they are.
        batch_size: Images a step, at least 1.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=0.1))
    epsilon: float = 16 / 255
    strength: float = 0.67
    ssim: float | None = None
    delta: float = 0.005
    delta_class: float = 0.05
    start: Start = "search"
    hosts: Hosts = "random"
    architecture: Own = "victim"
    ensemble: int = 2
    rounds: int = 1
    steps: int = 300
    batch_size: int = 256

    threat: ClassVar[ThreatModel] = BACKDOOR_BY_SURROGATE
    revision: ClassVar[int] = 4
    surrogate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_shares(self, "epsilon", "strength", "delta", "delta_class")
        if self.ssim is not None:
            number("ssim", self.ssim, low=0, high=1, open_low=True)
        choice("start", self.start, get_args(Start))
        choice("hosts", self.hosts, HOSTS)
        choice("architecture", self.architecture, ("victim", "lenet", "vgg", "resnet", "mlp"))
        for name in ("ensemble", "batch_size"):
            whole(name, getattr(self, name), low=1)
        whole("steps", self.steps, low=int(self.start == "search"))
        whole("rounds", self.rounds, low=0)
        if self.hosts == "borderline" and not self.rounds:
            raise UsageError(
                'rounds is 0, but hosts "borderline" are found in a rehearsal; give at least 1'
            )

    @property
    def other(self) -> Architecture | None:
        """Architecture of the surrogates, or None for the victim's own."""
        if self.architecture == "victim":
            return None
        made: Architecture = get("model", self.architecture)()
        return made

    @property
    def trainings(self) -> int:
        """How many surrogates it trains, if no budget has to be halved."""
        asked = self.hosts in ("confident", "doubtful", "resistant")
        clean = self.start == "search" or asked or self.rounds
        forgotten = (1 + self.rounds) * (self.hosts == "forgotten")
        return self.ensemble * (bool(clean) + self.rounds + forgotten)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("low-impact", dataset, self.target, self.amount)
        if self.other is not None:  # refuses what cannot be
            skeleton(self.other, dataset.domain, len(dataset.classes))
        if self.rounds:
            check_rehearsable(dataset, delta=self.delta, delta_class=self.delta_class)

    def passes(
        self,
        dataset: Dataset,  # noqa: ARG002 - a search takes as many images of any
        lab: Lab,  # noqa: ARG002 - any model will do
        clean: Dataset | None = None,  # noqa: ARG002 - an attacker has none
    ) -> tuple[Passes, ...]:
        """Return what it computes itself: searches for a trigger."""
        searches = (self.start == "search") + max(0, self.rounds - 1)
        images = searches * self.steps * self.batch_size
        return (Passes(samples=self.ensemble * images),)

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with a part of the trigger in a few images.

        Raises:
            UsageError: If a bound on accuracy may be broken even by a single poisoned sample.
        """
        self.check(dataset)
        workshop = Workshop(self, dataset, rng, lab)
        pattern, budget = workshop.pattern(), self.amount
        for i in range(self.rounds):
            if i > 0:
                pattern = workshop.refitted(pattern, i)
            budget = workshop.rehearsed(pattern, budget, i)
        trigger = Perturbation(target=dataset.class_index(self.target), pattern=pattern)
        return workshop.planted(dataset, trigger, budget, rng.child("samples"))
