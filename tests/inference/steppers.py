"""For the tests of the engine: a small network, an attack that keeps what it was given, judging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from systems import (
    data_of,
    scores_of,
)
from torch import nn

from casemate.threats import Access, Goal, Knowledge, Stage, ThreatModel


class Curved(nn.Module):
    """A small smooth network on which attacks take different numbers of steps."""

    def __init__(self, size=12, classes=3, seed=4):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn((size, 24), generator=generator) * 2)
        self.second = nn.Parameter(torch.randn((24, classes), generator=generator))

    def forward(self, x):
        return torch.tanh((x.flatten(1) - 0.5) @ self.first) @ self.second


def curved_case(n=11, shape=(3, 2, 2), **options):
    module = Curved()
    x = torch.rand((n, *shape), generator=torch.Generator().manual_seed(n))
    if options.pop("eight_bits", False):
        x = (x * 255).round().to(torch.uint8)
        options["step"] = 1 / 255
    scale = 255 if x.dtype == torch.uint8 else 1
    return module, data_of(x, scores_of(module, x.float() / scale).argmax(1), 3, **options)


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Asks for three random draws a restart and keeps what it was given."""

    restarts: int = 2
    epsilon: float = 0.2
    norm: ClassVar[str] = "linf"
    minimizes: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="evasion-black-box",
        stage=Stage.INFERENCE,
        goals=(Goal.INTEGRITY_UNTARGETED,),
        access=Access.LABELS,
        knowledge=Knowledge.BLACK_BOX,
        budget="a test's",
    )
    asks: ClassVar[int] = 3
    gradient_asks: ClassVar[int] = 0
    seen: ClassVar[dict] = {}
    answers: ClassVar[list] = []

    def check(self, domain):
        pass

    def start(self, jobs):
        return {"x": jobs.origin.clone()}

    def ask(self, jobs, state):
        x = jobs.origin + 0.1 * jobs.stream.uniform(jobs.words, jobs.domain.shape)
        x = (x + jobs.age.view(-1, 1, 1, 1) * 0.01).clamp(0, 1)
        for position, restart, age, point in zip(
            jobs.position.tolist(), jobs.words[:, 1].tolist(), jobs.age.tolist(), x, strict=True
        ):
            self.seen[position, restart, age] = point.clone()
        return x

    def objective(self, jobs, scores):
        return -scores.sum(1)

    def tell(self, jobs, state, answer):
        self.answers.append(answer)


def same(one, other):
    assert torch.equal(one.success, other.success)
    assert torch.equal(one.noted, other.noted)
    torch.testing.assert_close(one.adversarial, other.adversarial, rtol=0, atol=2e-5)
    torch.testing.assert_close(one.margin, other.margin, rtol=1e-4, atol=1e-4)
    for name in ("zero_gradient", "not_finite", "unfinished"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def verified_by_hand(module, found, data, goals=None):
    labels = scores_of(module, found.adversarial).argmax(1)
    return labels == goals if goals is not None else labels != data.targets
