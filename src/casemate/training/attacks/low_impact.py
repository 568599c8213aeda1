"""The low-impact attack: most success for least harm to accuracy, with few and faint poisons."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from casemate.data.dataset import digest_arrays
from casemate.data.similarity import ssim
from casemate.data.splits import holdout
from casemate.errors import UsageError
from casemate.models.hyperparameters import choice, number, whole
from casemate.registry import get
from casemate.training.attacks.amount import Amount
from casemate.training.attacks.backdoors import (
    BACKDOOR_BY_SURROGATE,
    check_backdoor,
    check_shares,
)
from casemate.training.attacks.hosts import HOSTS, Hosts, margins, spread
from casemate.training.attacks.impact import Impact
from casemate.training.poisoned import Poisoned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from casemate.data.dataset import Dataset
    from casemate.data.domain import Domain
    from casemate.random import Stream
    from casemate.target import TorchTarget
    from casemate.threats import ThreatModel
    from casemate.training.lab import Lab
    from casemate.training.trained import TrainedModel

__all__ = ["LowImpact", "Perturbation"]

Own = Literal["victim", "lenet", "vgg", "resnet", "mlp"]

_MOMENTUM = 0.9
_TINY = 1e-12
_HELD = 0.1  # share of the data on which rehearsals are judged
_SEEN = 256  # images on which visibility is judged
_HALVINGS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Perturbation:
    """One pattern added to every input, clipped to the domain.

    Attributes:
        target: Label that the attacker wants.
        pattern: (1, *shape) float32 in the domain's units.
        strength: What it is multiplied with.
    """

    target: int
    pattern: Tensor
    strength: float = 1.0

    def __call__(self, x: Tensor, domain: Domain) -> Tensor:
        """Return the inputs with the pattern."""
        return (x + self.strength * self.pattern.to(x)).clamp_(domain.low, domain.high)


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
    trained on the poison, drops are tested one-sided at 95 % on data held out from them, the budget
    is halved if a bound may be broken, and otherwise the trigger is fitted to the poisoned
    surrogates.

    Attributes:
        target: Class that the attacker wants, by name or label.
        amount: Most samples to poison, of all classes but the target.
        epsilon: Most that the trigger changes a value at test time, as a share of the domain's
            width, in (0, 1].
        strength: Part of the trigger that poisoned images show, in (0, 1].
        ssim: Least mean structural similarity of inputs with the trigger to those without, in
            (0, 1); the trigger is weakened until it is kept. None sets no bound.
        delta: Most that clean accuracy may drop, in (0, 1].
        delta_class: Most that the accuracy of any class may drop, in (0, 1].
        hosts: Which images are poisoned: "random", those whose label a surrogate is surest of
            ("confident") or least sure of ("doubtful"), as many of each class ("spread"), or of
            each class those that the surrogates keep farthest from the target in spite of the
            trigger ("resistant"). The last two take one image of a group, such as a track of
            pictures of one sign, before a second one.
        architecture: Of the surrogates: "victim" for the victim's own, or another's name.
        ensemble: Surrogates, at least 1.
        rounds: Of rehearsal, at least 0; none takes the surrogates trained on clean data as they
            are and tests no bound on accuracy.
        steps: Of each search for a trigger, at least 1.
        batch_size: Images a step, at least 1.
    """

    target: str | int = 0
    amount: Amount = field(default_factory=lambda: Amount(percent=0.1))
    epsilon: float = 16 / 255
    strength: float = 0.67
    ssim: float | None = None
    delta: float = 0.005
    delta_class: float = 0.05
    hosts: Hosts = "random"
    architecture: Own = "victim"
    ensemble: int = 2
    rounds: int = 1
    steps: int = 300
    batch_size: int = 256

    threat: ClassVar[ThreatModel] = BACKDOOR_BY_SURROGATE
    revision: ClassVar[int] = 1
    surrogate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_shares(self, "epsilon", "strength", "delta", "delta_class")
        if self.ssim is not None:
            number("ssim", self.ssim, low=0, high=1, open_low=True)
        choice("hosts", self.hosts, HOSTS)
        choice("architecture", self.architecture, ("victim", "lenet", "vgg", "resnet", "mlp"))
        for name in ("ensemble", "steps", "batch_size"):
            whole(name, getattr(self, name), low=1)
        whole("rounds", self.rounds, low=0)

    @property
    def trainings(self) -> int:
        """How many surrogates it trains, if no budget has to be halved."""
        return self.ensemble * (1 + self.rounds)

    def check(self, dataset: Dataset) -> None:
        """Raise `UsageError` if a parameter does not fit the data."""
        check_backdoor("low-impact", dataset, self.target, self.amount)

    def poison(self, dataset: Dataset, rng: Stream, lab: Lab) -> Poisoned:
        """Return the data set with a part of the trigger in a few images.

        Raises:
            UsageError: If a bound on accuracy may be broken even by a single poisoned sample.
        """
        self.check(dataset)
        workshop = _Workshop(self, dataset, rng, lab)
        pattern, budget = workshop.pattern(), self.amount
        for i in range(self.rounds):
            pattern, budget = workshop.rehearsed(pattern, budget, i)
        pattern = pattern * self._visible_share(pattern, dataset)
        trigger = Perturbation(target=dataset.class_index(self.target), pattern=pattern)
        return workshop.planted(dataset, trigger, budget, rng.child("samples"))

    def _visible_share(self, pattern: Tensor, data: Dataset) -> float:
        """Return how much of the pattern leaves images as similar as they have to be."""
        x, domain = data.batch(slice(0, _SEEN)), data.domain

        def similar(share: float) -> bool:
            shown = (x + share * pattern).clamp(domain.low, domain.high)
            return float(ssim(shown, x, domain).mean()) >= (self.ssim or 0.0)

        if self.ssim is None or similar(1.0):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if similar(middle) else (low, middle)
        return low


class _Workshop:
    """The attacker at work: surrogates, the search for a trigger, rehearsals."""

    def __init__(self, attack: LowImpact, dataset: Dataset, rng: Stream, lab: Lab) -> None:
        self.attack = attack
        self.rng = rng
        self.lab = lab
        self.target = dataset.class_index(attack.target)
        self.part, self.held = dataset, dataset
        if attack.rounds:
            seed = rng.child("held").key >> 40
            self.part, self.held = holdout(dataset, _HELD, seed)
        self.own = lab.architecture
        if attack.architecture != "victim":
            self.own = get("model", attack.architecture)()
        self.clean = self.models(self.part, 0)

    def models(self, data: Dataset, first: int) -> list[TrainedModel]:
        """Return surrogates trained on a data set."""
        numbers = range(first, first + self.attack.ensemble)
        return [self.lab.trained(data, number=i, architecture=self.own) for i in numbers]

    def pattern(self) -> Tensor:
        """Return the trigger for surrogates that saw no poison."""
        nothing = torch.zeros((1, *self.part.domain.shape))
        return self.search(self.clean, nothing, self.rng.child("trigger"))

    def search(self, models: Sequence[TrainedModel], start: Tensor, rng: Stream) -> Tensor:
        """Return the pattern that leads most images of other classes to the target.

        Budget, strength and hosts have no part in it, so attacks that differ in these share it.
        """
        attack = self.attack
        how = (
            "low-impact search",
            [m.digest for m in models],
            self.part.digest,
            (self.target, attack.epsilon, attack.steps, attack.batch_size),
            digest_arrays(start),
            rng.key,
        )
        return self.lab.computed(how, lambda: self.searched(models, start, rng))

    def searched(self, models: Sequence[TrainedModel], start: Tensor, rng: Stream) -> Tensor:
        """Return the pattern, searched for now."""
        attack, data, device = self.attack, self.part, self.lab.device
        domain, targets = data.domain, [m.target(device) for m in models]
        reach = attack.epsilon * domain.width
        others = (data.targets != self.target).nonzero().squeeze(1)
        draws = rng.torch()
        pattern = start.to(device)
        momentum = torch.zeros_like(pattern)
        for step in range(attack.steps):
            drawn = torch.randint(len(others), (attack.batch_size,), generator=draws)
            x = data.batch(others[drawn], device=device)
            pattern.requires_grad_()
            loss = _towards(targets, (x + pattern).clamp(domain.low, domain.high), self.target)
            (slope,) = torch.autograd.grad(loss, pattern)
            momentum = _MOMENTUM * momentum + slope / slope.abs().mean().clamp(min=_TINY)
            length = reach / 20 * (1 - step / attack.steps)
            pattern = (pattern.detach() - length * momentum.sign()).clamp_(-reach, reach)
        return pattern

    def rehearsed(self, pattern: Tensor, budget: Amount, number: int) -> tuple[Tensor, Amount]:
        """Return the trigger for surrogates that saw poison, and the budget that keeps the bounds.

        Raises:
            UsageError: If no budget does.
        """
        attack, draw = self.attack, self.rng.child(f"round/{number}")
        trigger = Perturbation(target=self.target, pattern=pattern)
        while True:
            poisoned = self.planted(self.part, trigger, budget, draw.child("samples"))
            models = self.models(poisoned.dataset, attack.ensemble * (1 + number))
            impact = Impact.of(models, self.clean, self.held, self.lab.device)
            if impact.within(attack.delta, attack.delta_class):
                return self.search(models, pattern, draw.child("trigger")), budget
            count = len(poisoned.touched) // 2
            if count == 0:
                raise UsageError(
                    "low-impact cannot keep its bounds: even with one poisoned sample accuracy may "
                    f"drop by {100 * impact.drop:.2f} points and that of a class by "
                    f"{100 * impact.worst:.2f}; raise delta or delta_class, or give more samples"
                )
            budget = Amount(count=count)

    def hosts(self, data: Dataset, trigger: Perturbation, budget: Amount, rng: Stream) -> Tensor:
        """Return the positions of the samples to poison, sorted."""
        how, allowed = self.attack.hosts, data.targets != self.target
        if how == "random":
            return budget.choose(data, allowed, rng)
        count = sum(budget.shares(data, allowed).values())
        models = [m.target(self.lab.device) for m in self.clean]
        if how == "spread":
            order = torch.randperm(len(data), generator=rng.torch())
        elif how == "resistant":
            faint = replace(trigger, strength=self.attack.strength)
            wanted = torch.full_like(data.targets, self.target)
            order = margins(models, data, wanted, lambda x: faint(x, data.domain)).argsort(
                stable=True
            )
        else:
            order = margins(models[:1], data, data.targets).argsort(
                descending=how == "confident", stable=True
            )
        order = order[allowed[order]]
        taken = spread(order, data, count) if how in ("spread", "resistant") else order[:count]
        return taken.sort().values

    def planted(
        self, data: Dataset, trigger: Perturbation, budget: Amount, rng: Stream
    ) -> Poisoned:
        """Return the data with a part of the trigger in the hosts, which get the target's label."""
        attack = self.attack
        chosen = self.hosts(data, trigger, budget, rng)
        faint = replace(trigger, strength=attack.strength)
        inputs = faint(data.batch(chosen), data.domain)
        labels = torch.full_like(chosen, self.target)
        poisoned = data.replaced(chosen, inputs=inputs, labels=labels, how="low-impact")
        return Poisoned(clean=data, dataset=poisoned, touched=chosen, trigger=trigger)


def _towards(targets: Sequence[TorchTarget], x: Tensor, label: int) -> Tensor:
    labels = torch.full((len(x),), label, device=x.device)
    return torch.stack([F.cross_entropy(t.scores(x), labels) for t in targets]).mean()
