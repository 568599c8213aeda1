"""The engine's promises: the same result in any batch, exact books, honest success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import (
    Counting,
    Linear,
    Wrapped,
    data_of,
    function_of,
    linear_case,
    no_gradients,
    scores_of,
    target_of,
    weights,
)
from torch import nn

from casemate.access import Budget
from casemate.errors import AccessDeniedError, UsageError
from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.bounded import WHITE_BOX_EVASION
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft
from casemate.inference.norms import within
from casemate.target import Preprocessing
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


def same(one, other):
    assert torch.equal(one.success, other.success)
    assert torch.equal(one.noted, other.noted)
    torch.testing.assert_close(one.adversarial, other.adversarial, rtol=0, atol=2e-5)
    torch.testing.assert_close(one.margin, other.margin, rtol=1e-4, atol=1e-4)
    for name in ("zero_gradient", "not_finite", "unfinished"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@settings(max_examples=25)
@given(
    batch=st.sampled_from([1, 2, 3, 5, 10, 11, 12, 22, 64]),
    attack=st.sampled_from(
        [
            FGSM(epsilon=0.1),
            BIM(epsilon=0.1),
            PGD(epsilon=0.12, steps=6, restarts=1),
            PGD(epsilon=0.12, steps=6, restarts=4),
            PGD(epsilon=0.25, steps=5, restarts=3, norm="l2"),
            PGD(epsilon=0.12, steps=6, restarts=3, loss="margin"),
            UniformNoise(epsilon=0.3, draws=5),
            GaussianNoise(epsilon=0.5, norm="l2", draws=4),
            LBFGS(searches=2, iterations=4),
        ]
    ),
    targeted=st.booleans(),
    early_stop=st.booleans(),
    rounded=st.booleans(),
)
def test_the_batch_size_does_not_change_the_result(batch, attack, targeted, early_stop, rounded):
    module, data = curved_case(eight_bits=True)
    goals = (data.targets + 1) % 3 if targeted else None
    options = {"goals": goals, "seed": 3, "early_stop": early_stop, "round_points": rounded}
    whole = craft(attack, target_of(module, data), data, batch_size=11, **options)
    parts = craft(attack, target_of(module, data), data, batch_size=batch, **options)
    if isinstance(attack, LBFGS):  # minimizers near a kink amplify the last bits
        assert torch.equal(whole.success, parts.success)
    else:
        same(whole, parts)


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


@pytest.fixture
def recorder():
    Recorder.seen.clear()
    Recorder.answers.clear()
    return Recorder()


@pytest.mark.parametrize("batch", [1, 3, 4, 22, 50])
def test_draws_are_bitwise_the_same_in_every_batch(recorder, batch):
    module, data = curved_case()
    target = target_of(module, data)
    craft(recorder, target, data, batch_size=22, early_stop=False)
    whole = dict(recorder.seen)
    recorder.seen.clear()
    craft(recorder, target, data, batch_size=batch, early_stop=False)
    assert whole.keys() == recorder.seen.keys()
    assert len(whole) == 11 * 2 * 3
    assert all(torch.equal(whole[k], recorder.seen[k]) for k in whole)
    craft(recorder, target, data, seed=1, early_stop=False)
    assert not any(torch.equal(whole[k], recorder.seen[k]) for k in whole)


def test_a_sample_keeps_its_draws_in_every_view(recorder):
    """Random numbers go with the sample, not with its place in the selection."""
    module, data = curved_case()
    target = target_of(module, data)
    craft(recorder, target, data, early_stop=False)
    whole = dict(recorder.seen)
    recorder.seen.clear()
    rows = torch.tensor([7, 2, 9])
    craft(recorder, target, data.select(rows, how="some"), early_stop=False)
    for position, row in enumerate(rows.tolist()):
        assert torch.equal(recorder.seen[position, 1, 2], whole[row, 1, 2])


# -- success is judged on what is returned -------------------------------------------------------


def verified_by_hand(module, found, data, goals=None):
    labels = scores_of(module, found.adversarial).argmax(1)
    return labels == goals if goals is not None else labels != data.targets


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
def test_success_is_that_of_the_returned_points(early_stop, targeted):
    module, data = curved_case(n=40)
    goals = (data.targets + 1) % 3 if targeted else None
    attack = PGD(epsilon=0.1, steps=5)
    found = craft(attack, target_of(module, data), data, goals=goals, early_stop=early_stop)
    assert torch.equal(found.success, verified_by_hand(module, found, data, goals))
    assert 0 < int(found.success.sum()) < 40
    origin = data.batch(slice(None))
    assert within(found.adversarial, origin, "linf", 0.1, data.domain).all()


def test_rounding_that_undoes_success_does_not_count():
    """The class changes only strictly between two gray levels."""

    class Between(nn.Module):
        def forward(self, x):
            level = x.flatten(1).sum(1) * 255
            return torch.stack([(level - 10.5).abs(), torch.full_like(level, 0.3)], 1)

    levels = torch.full((3, 1, 1, 1), 10, dtype=torch.uint8)
    data = data_of(levels, [0, 0, 0], 2, step=1 / 255)
    target = target_of(Between(), data)
    attack = BIM(epsilon=2 / 255, steps=16, step_size=0.25 / 255)
    loose = craft(attack, target, data)
    assert loose.success.all()  # without rounding there is a way
    rounded = craft(attack, target, data, round_points=True)
    assert not rounded.success.any()
    assert not rounded.noted.any()
    steps = rounded.adversarial * 255
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rounded_points_are_on_the_grid_and_succeed_there(early_stop, norm):
    module, data = curved_case(n=30, eight_bits=True)
    attack = PGD(epsilon=0.1 if norm == "linf" else 0.3, steps=10, norm=norm)
    found = craft(attack, target_of(module, data), data, early_stop=early_stop, round_points=True)
    as_8_bits = (found.adversarial * 255).round().to(torch.uint8)
    again = as_8_bits.float().div(255)
    assert torch.equal(again, found.adversarial)
    assert torch.equal(found.success, verified_by_hand(module, found, data))
    assert found.success.any()
    assert within(again, data.batch(slice(None)), norm, attack.epsilon, data.domain).all()


def test_the_best_margin_is_that_of_a_rounded_point():
    module, data = curved_case(n=30, eight_bits=True)
    attack = PGD(epsilon=0.02, steps=10)
    found = craft(attack, target_of(module, data), data, early_stop=False, round_points=True)
    z = scores_of(module, found.adversarial)
    true = z.gather(1, data.targets[:, None]).squeeze(1)
    lead = true - z.scatter(1, data.targets[:, None], float("-inf")).amax(1)
    hit = found.success
    assert hit.any()
    torch.testing.assert_close(found.margin[hit], lead[hit], rtol=1e-4, atol=1e-4)


class Flaky(nn.Module):
    """Fools itself on every call but the last ones."""

    def __init__(self, module, good_calls):
        super().__init__()
        self.module, self.left = module, good_calls

    def forward(self, x):
        self.left -= 1
        z = self.module(x)
        return z.roll(1, 1) if self.left >= 0 else z


def test_a_random_model_is_judged_on_the_last_answer():
    module, data = curved_case()
    found = craft(FGSM(epsilon=0.0), target_of(Flaky(module, 1), data), data)
    assert found.noted.all()
    assert not found.success.any()


def test_a_model_that_depends_on_its_batch():
    """Fooled only in a batch of mixed jobs; the verifier's batches differ."""

    class Batchy(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x) * (-1 if len(x) == 3 else 1)

    module, data = linear_case(2, n=4)
    found = craft(FGSM(epsilon=0.0), target_of(Batchy(module), data), data, batch_size=3)
    by_hand = torch.cat([scores_of(Batchy(module), data.batch(slice(a, a + 3))) for a in (0, 3)])
    assert found.noted[:3].all()
    assert torch.equal(found.success, by_hand.argmax(1) != data.targets)


@dataclass(frozen=True, kw_only=True)
class Cheat(Recorder):
    """Asks for a point far outside its epsilon."""

    restarts: int = 1
    epsilon: float = 0.01
    low: float = 0.0

    def ask(self, jobs, state):
        return 1 - jobs.origin + self.low


@pytest.mark.parametrize("low", [0.0, 5.0])
def test_points_outside_epsilon_or_domain_do_not_count(low):
    module, data = linear_case(2)
    found = craft(Cheat(low=low), target_of(module, data), data)
    assert not found.success.any()
    assert not found.noted.any()
    assert (found.margin > 0).all()
    assert torch.equal(found.adversarial, data.batch(slice(None)))
    honest = craft(Cheat(epsilon=1.0), target_of(module, data), data)
    assert honest.success.any()


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_model_that_breaks_down_is_not_fooled(broken, early_stop):
    module, data = linear_case(3, n=9)
    origin = data.batch(slice(None))

    def change(z, x):
        moved = (x.detach() - origin[0].mean()).abs().flatten(1).amax(1) > 0.2
        return torch.where(moved[:, None], torch.tensor(broken), z)

    system = Wrapped(module, change)
    for attack in (PGD(epsilon=0.3, steps=4), UniformNoise(epsilon=0.3), LBFGS(searches=2)):
        found = craft(attack, target_of(system, data), data, early_stop=early_stop)
        bad = ~scores_of(system, found.adversarial).isfinite().all(1)
        assert not (found.success & bad).any()
        if not isinstance(attack, UniformNoise):  # scores are seen
            assert torch.equal(found.noted, found.success)
    found = craft(UniformNoise(epsilon=0.3), target_of(system, data), data)
    assert found.not_finite.all()
    assert not found.success.any()


def test_clean_inputs_with_nan_scores_are_no_success():
    module, data = linear_case(3, n=9)
    system = Wrapped(module, lambda z, _x: z * float("nan"))
    for attack in (FGSM(), BIM(), LBFGS(searches=2), UniformNoise()):
        found = craft(attack, target_of(system, data), data)
        assert not found.success.any()
        assert found.not_finite.all()
        assert found.adversarial.isfinite().all()


def test_gradients_that_are_nan_in_places_do_not_stop_an_attack():
    class Rooted(nn.Module):
        """The root's gradient at 0 is infinite, and times 0 it is NaN."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x) + 0 * (x[:, :1, 0, 0] - 0.5).clamp_min(0).sqrt()

    module, data = linear_case(2, n=6)
    x = data.batch(slice(None))
    x[:, 0, 0, 0] = 0.5
    data = data_of(x, scores_of(module, x).argmax(1), 2)
    for attack in (BIM(epsilon=0.3), BIM(epsilon=1.0, norm="l2"), LBFGS()):
        found = craft(attack, target_of(Rooted(module), data), data)
        assert found.success.all()
        assert found.not_finite.all()


@dataclass(frozen=True, kw_only=True)
class FarCheat(Cheat):
    """The same in L2, where rounding does not bring a point back."""

    norm: ClassVar[str] = "l2"


def test_rounding_does_not_let_points_outside_epsilon_in():
    module, data = linear_case(2)
    levels = (data.batch(slice(None)) * 255).round().to(torch.uint8)
    labels = scores_of(module, levels.float() / 255).argmax(1)
    data = data_of(levels, labels, 2, step=1 / 255)
    found = craft(FarCheat(), target_of(module, data), data, round_points=True)
    assert not found.noted.any()
    assert not found.success.any()
    assert craft(FarCheat(epsilon=5.0), target_of(module, data), data).success.any()


@dataclass(frozen=True, kw_only=True)
class Quitter(Recorder):
    """Its second restart gives up at once, so that it ends before the first."""

    def tell(self, jobs, state, answer):
        return (jobs.words[:, 1] == 1) | (jobs.age == 1)


@pytest.mark.parametrize("batch", [1, 5, 11, 22])
def test_ties_between_restarts_go_to_the_first(batch):
    """Where only labels are seen, all successes are equally good."""
    module, data = curved_case()
    wrong = data_of(data.batch(slice(None)), torch.ones(11), 3)
    always = target_of(Wrapped(module, lambda z, _x: z * 0 + torch.tensor([1.0, 0, 0])), wrong)
    attack = Quitter()
    found = craft(attack, always, wrong, batch_size=batch, early_stop=False)
    assert found.noted.all()
    for position in range(len(wrong)):
        assert torch.equal(found.adversarial[position], attack.seen[position, 0, 0])


# -- the books -------------------------------------------------------------------------------------


def test_fgsm_costs_two_looks_and_one_gradient():
    module, data = linear_case(3, n=10)
    counting = Counting(module)
    found = craft(FGSM(epsilon=1e-4), target_of(counting, data), data, batch_size=4)
    assert not found.success.any()
    assert found.spent["attack forward"] == 20
    assert found.spent["attack backward"] == 10 == counting.backward_samples
    assert found.spent["verifier forward"] == 10
    assert counting.forward_samples == 30
    assert found.spent["attack calls"] + 3 == counting.calls


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize(
    "attack",
    [
        PGD(epsilon=0.05, steps=4, restarts=3),
        LBFGS(searches=3, iterations=5),
        UniformNoise(epsilon=0.2, draws=3),
        BIM(epsilon=0.05),
    ],
    ids=lambda a: type(a).__name__,
)
def test_the_books_agree_with_the_model(attack, early_stop, rounded):
    module, data = curved_case(eight_bits=True)
    counting = Counting(module)
    found = craft(
        attack,
        target_of(counting, data),
        data,
        batch_size=5,
        early_stop=early_stop,
        round_points=rounded,
    )
    spent = found.spent
    assert spent["attack forward"] + spent["verifier forward"] == counting.forward_samples
    assert spent["attack backward"] == counting.backward_samples
    assert spent["verifier forward"] == len(data)
    assert spent["attack calls"] + 3 == counting.calls
    if not early_stop and not attack.minimizes and not rounded:
        jobs = len(data) * attack.restarts
        assert spent["attack forward"] == jobs * attack.asks
        assert spent["attack backward"] == jobs * attack.gradient_asks


def test_a_fooled_sample_is_dropped_and_its_later_restarts_cancelled():
    module, data = linear_case(2, n=6)
    target = target_of(Counting(module), data)
    attack = PGD(epsilon=0.5, steps=20, restarts=5, random_start=True)
    found = craft(attack, target, data, batch_size=6)
    assert found.success.all()
    jobs = 6 * 5
    assert found.spent["attack forward"] < 6 * 5  # a few steps of the first restart
    assert target.module.forward_samples < 12 * 5
    full = craft(attack, target, data, batch_size=6, early_stop=False)
    assert full.spent["attack forward"] == jobs * attack.asks


def test_restarts_in_flight_are_cancelled():
    """All restarts at once: when the first succeeds, the others end with it."""
    module, data = linear_case(2, n=6)
    attack = PGD(epsilon=0.5, steps=200, step_size=0.05, restarts=5)
    found = craft(attack, target_of(module, data), data, batch_size=30)
    assert found.success.all()
    assert found.spent["attack forward"] < 30 * 30


def test_restarts_find_what_one_start_does_not():
    module, data = curved_case(n=60)
    target = target_of(module, data)
    counts = [
        int(craft(UniformNoise(epsilon=0.25, draws=d), target, data).success.sum())
        for d in (1, 4, 16)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    bests = [
        craft(PGD(epsilon=0.03, steps=3, restarts=r), target, data, early_stop=False).margin
        for r in (1, 2, 6)
    ]
    assert (bests[1] <= bests[0] + 1e-6).all()
    assert (bests[2] <= bests[1] + 1e-6).all()
    assert (bests[2] < bests[0] - 1e-4).any()


@pytest.mark.parametrize("limit", [0, 7, 24, 40])
@pytest.mark.parametrize("attack", [PGD(epsilon=0.05, steps=9), UniformNoise(epsilon=0.2, draws=9)])
def test_a_budget_ends_the_run_and_keeps_what_was_found(attack, limit):
    module, data = curved_case(n=12)
    counting = Counting(module)
    budget = Budget(forward=limit)
    found = craft(attack, target_of(counting, data), data, batch_size=6, budget=budget)
    assert found.exhausted
    assert found.spent["attack forward"] <= limit
    assert counting.forward_samples == found.spent["attack forward"] + len(data)
    assert torch.equal(found.success, verified_by_hand(module, found, data))
    assert not found.unfinished.any()
    never = found.margin.isinf()
    assert torch.equal(found.adversarial[never], data.batch(slice(None))[never])
    if limit == 0:
        assert never.all()
    if limit == 40:
        assert found.noted.any()


def test_a_backward_budget_counts_gradients():
    module, data = linear_case(2, n=8)
    budget = Budget(backward=20)
    attack = PGD(epsilon=1e-4, steps=9)
    found = craft(attack, target_of(module, data), data, batch_size=4, budget=budget)
    assert found.exhausted
    assert found.spent["attack backward"] == 20
    enough = Budget(forward=80, backward=72)
    assert not craft(attack, target_of(module, data), data, budget=enough).exhausted


def test_a_budget_that_ends_while_rounding():
    """The look at the rounded point is the attacker's as well."""
    module, data = curved_case(n=6, eight_bits=True)
    for limit in range(0, 30, 3):
        found = craft(
            UniformNoise(epsilon=0.4, draws=4),
            target_of(module, data),
            data,
            early_stop=False,
            round_points=True,
            batch_size=3,
            budget=Budget(forward=limit),
        )
        assert found.exhausted
        assert found.spent["attack forward"] <= limit


# -- access ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scores(Recorder):
    threat: ClassVar[ThreatModel] = ThreatModel(
        threat="evasion-black-box",
        stage=Stage.INFERENCE,
        goals=(Goal.INTEGRITY_UNTARGETED,),
        access=Access.SCORES,
        knowledge=Knowledge.BLACK_BOX,
        budget="a test's",
    )


@pytest.mark.parametrize("kind", [Recorder, Scores])
def test_an_attack_gets_no_more_than_it_declares(kind, recorder, monkeypatch):
    module, data = curved_case()
    no_gradients(monkeypatch)
    found = craft(kind(), target_of(module, data), data, early_stop=False)
    assert found.spent["attack backward"] == 0
    assert recorder.answers
    for answer in recorder.answers:
        assert answer.gradient is None
        assert answer.loss is None
        assert (answer.scores is None) == (kind is Recorder)


def test_black_boxes_refuse_what_they_cannot_give():
    module, data = linear_case(3)
    box = function_of(lambda x: scores_of(module, torch.from_numpy(x)).softmax(1), data)
    with pytest.raises(AccessDeniedError, match="gradients"):
        craft(PGD(), box, data)
    labels = function_of(
        lambda x: scores_of(module, torch.from_numpy(x)).argmax(1), data, outputs="labels"
    )
    with pytest.raises(AccessDeniedError, match="labels only"):
        craft(Scores(), labels, data)
    found = craft(UniformNoise(epsilon=1.0, draws=20), labels, data)
    assert found.success.any()


# -- the model is left as it was -------------------------------------------------------------------


class Moody(nn.Module):
    """Batch norm in training mode with a frozen part, dropout, gradients, buffers, a counter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(64, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.raise_at = None

    def forward(self, x):
        self.calls += 1
        if self.raise_at is not None and self.calls >= self.raise_at:
            raise RuntimeError("out of order")
        return self.out(self.drop(self.frozen(self.norm(self.conv(x)))).flatten(1))


def moody():
    torch.manual_seed(0)
    module = Moody()
    module.train()
    module.frozen.eval()
    module.conv.weight.requires_grad_(False)
    module.out.weight.grad = torch.ones_like(module.out.weight)
    return module


def snapshot(module):
    return {
        "modes": {n: m.training for n, m in module.named_modules()},
        "state": {k: v.clone() for k, v in module.state_dict().items()},
        "ids": {k: id(v) for k, v in [*module.named_parameters(), *module.named_buffers()]},
        "requires_grad": {k: p.requires_grad for k, p in module.named_parameters()},
        "grad": {k: None if p.grad is None else id(p.grad) for k, p in module.named_parameters()},
        "grad values": {
            k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None
        },
        "rng": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b


@pytest.mark.parametrize("raise_at", [None, 1, 3])
@pytest.mark.parametrize(
    "attack",
    [PGD(epsilon=0.1, steps=3, restarts=2), UniformNoise(draws=3), LBFGS(searches=1, iterations=3)],
    ids=lambda a: type(a).__name__,
)
def test_the_model_is_left_bit_for_bit_as_it_was(attack, raise_at):
    module = moody()
    module.raise_at = raise_at
    data = data_of(torch.rand(5, 2, 4, 4), [0, 1, 2, 0, 1], 3)
    before = snapshot(module)
    target = target_of(module, data)
    if raise_at is None:
        craft(attack, target, data, batch_size=2)
    else:
        with pytest.raises(RuntimeError, match="out of order"):
            craft(attack, target, data, batch_size=2)
    after = snapshot(module)
    for name in before:
        assert equal(before[name], after[name]), name


def test_training_mode_does_not_reach_the_figures():
    """Batch norm and dropout are evaluated as in deployment, whatever the owner left."""
    module = moody()
    data = data_of(torch.rand(6, 2, 4, 4), [0, 1, 2, 0, 1, 2], 3)
    first = craft(PGD(epsilon=0.1, steps=3), target_of(module, data), data, batch_size=6)
    second = craft(PGD(epsilon=0.1, steps=3), target_of(module, data), data, batch_size=2)
    same(first, second)
    again = craft(PGD(epsilon=0.1, steps=3), target_of(module.eval(), data), data, batch_size=4)
    same(first, again)


# -- traps -----------------------------------------------------------------------------------------


def test_epsilon_means_the_domain_whatever_the_preprocessing():
    """Normalized by a tiny deviation, the model sees far larger changes than epsilon."""
    module, data = linear_case(2, n=8)

    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x * 0.05 + 0.4)

    preprocessing = Preprocessing(mean=(0.4, 0.4), std=(0.05, 0.05))
    plain = craft(BIM(epsilon=0.1), target_of(module, data), data, early_stop=False)
    behind = craft(
        BIM(epsilon=0.1),
        target_of(Normalized(), data, preprocessing=preprocessing),
        data,
        early_stop=False,
    )
    torch.testing.assert_close(behind.adversarial, plain.adversarial, rtol=0, atol=1e-5)
    far = (behind.adversarial - data.batch(slice(None))).abs().flatten(1).amax(1)
    torch.testing.assert_close(far, torch.full((8,), 0.1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0)])
def test_other_domains_are_only_other_units(low, high):
    width = high - low
    module, data = linear_case(2, n=8)
    wide = data_of(data.batch(slice(None)) * width + low, data.targets, 2, low=low, high=high)
    rescaled = Wrapped(nn.Identity(), lambda _z, x: module((x - low) / width))
    for one, other in (
        (FGSM(epsilon=0.1), FGSM(epsilon=0.1 * width)),
        (PGD(epsilon=0.1, steps=5), PGD(epsilon=0.1 * width, steps=5)),
        (PGD(epsilon=0.3, norm="l2"), PGD(epsilon=0.3 * width, norm="l2")),
        (UniformNoise(epsilon=0.1), UniformNoise(epsilon=0.1 * width)),
        (LBFGS(), LBFGS()),
    ):
        narrow = craft(one, target_of(module, data), data, early_stop=False)
        found = craft(other, target_of(rescaled, wide), wide, early_stop=False)
        points = (found.adversarial - low) / width
        torch.testing.assert_close(points, narrow.adversarial, rtol=0, atol=5e-3)
        assert torch.equal(found.success, narrow.success)


def test_gradients_in_memory_that_entries_share():
    """The gradient of a plain sum is one number, expanded: it must not be written to."""

    class Sums(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([total, x.flatten(1).shape[1] - total], 1)

    x = torch.full((4, 6), 0.55)
    data = data_of(x, [0] * 4, 2)
    for norm in ("linf", "l2"):
        found = craft(
            BIM(epsilon=0.3, norm=norm, steps=5, step_size=0.1), target_of(Sums(), data), data
        )
        assert found.success.all()


def test_a_gradient_that_is_the_models_own_memory_is_not_written_to():
    weight = torch.tensor([[1.0, -2.0, 3.0], [-1.0, 2.0, -3.0]])

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x - 0.5) @ weight.T

        @staticmethod
        def backward(ctx, gradient):
            return weight[:1] if len(gradient) == 1 else gradient @ weight

    class Module(nn.Module):
        def forward(self, x):
            return Own.apply(x)

    data = data_of(torch.tensor([[0.6, 0.5, 0.5]]), [0], 2)
    before = weight.clone()
    for norm in ("linf", "l2"):
        craft(PGD(epsilon=0.2, steps=3, norm=norm), target_of(Module(), data), data)
    assert torch.equal(weight, before)


def test_probabilities_are_attacked_as_well_as_logits():
    """Declared as probabilities, softmax outputs cost the attack nothing."""
    module, data = curved_case(n=40)
    soft = Wrapped(module, lambda z, _x: z.softmax(1))
    for attack in (BIM(epsilon=0.03), LBFGS(searches=4)):
        logits = craft(attack, target_of(module, data), data)
        declared = craft(attack, target_of(soft, data, outputs="probabilities"), data)
        assert torch.equal(logits.success, declared.success)
        torch.testing.assert_close(declared.adversarial, logits.adversarial, rtol=0, atol=2e-2)


def test_confident_models_are_still_attacked():
    """At a lead of 40 nats float32 says p = 1; the direction is there all the same."""
    module, data = linear_case(3, n=10)
    steep = Linear(module.weight.detach(), scale=module.scale * 40)
    z = scores_of(steep, data.batch(slice(None)))
    lead = (z.topk(2, dim=1).values @ torch.tensor([1.0, -1.0])).amax()
    assert 20 < float(lead) < 85
    plain = craft(BIM(epsilon=0.1, steps=10), target_of(module, data), data)
    sure = craft(BIM(epsilon=0.1, steps=10), target_of(steep, data), data)
    assert torch.equal(sure.success, plain.success)
    assert not sure.zero_gradient.any()


@pytest.mark.parametrize("kind", ["saturated", "detached", "constant"])
def test_zero_gradients_are_noted(kind):
    module, data = linear_case(2, n=8)
    change = {
        "saturated": lambda z, _x: z * 1e6,
        "detached": lambda z, _x: z.detach(),
        "constant": lambda z, _x: z.round(),
    }[kind]
    found = craft(PGD(epsilon=0.01), target_of(Wrapped(module, change), data), data)
    assert found.zero_gradient.all()
    assert not craft(PGD(epsilon=0.01), target_of(module, data), data).zero_gradient.any()


def test_unfinished_is_noted_only_while_the_margin_falls():
    module, data = linear_case(2, n=10)
    target = target_of(module, data)
    for steps, step_size in ((20, 1e-4), (4, 2e-4), (200, 1e-5)):
        few = PGD(epsilon=0.02, steps=steps, step_size=step_size)
        found = craft(few, target, data, early_stop=False)
        assert (found.unfinished | found.success).all(), few
        assert found.unfinished.any()
    for done in (PGD(epsilon=0.001), BIM(epsilon=0.001), FGSM(epsilon=0.001), UniformNoise()):
        assert not craft(done, target, data).unfinished.any(), done


def test_samples_that_are_wrong_already_stay_where_they_are():
    module, data = linear_case(3, n=8)
    wrong = data_of(data.batch(slice(None)), (data.targets + 1) % 3, 3)
    found = craft(PGD(random_start=False), target_of(module, wrong), wrong)
    assert found.success.all()  # who counts is for the caller to say
    assert torch.equal(found.adversarial, wrong.batch(slice(None)))


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 6), (7,), (1,)])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_shapes_and_sizes(shape, n, batch):
    classes = 2
    size = int(torch.tensor(shape).prod())
    module = Linear(weights(classes, size))
    x = torch.rand((n, *shape), generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    data = data_of(x, scores_of(module, x).argmax(1), classes)
    for attack in (FGSM(epsilon=0.3), PGD(epsilon=0.3, steps=4), LBFGS(), UniformNoise()):
        found = craft(attack, target_of(module, data), data, batch_size=batch)
        assert found.adversarial.shape == x.shape
        assert found.success.shape == (n,)
        if not isinstance(attack, UniformNoise):
            assert found.success.all()


def test_no_samples_at_all():
    module, data = linear_case(2)
    found = craft(PGD(), target_of(module, data), data.select(torch.arange(0), how="none"))
    assert found.adversarial.shape == (0, 2, 4, 4)
    assert found.spent["attack forward"] == 0


@pytest.mark.parametrize(
    "attack", [FGSM(epsilon=0.0), BIM(epsilon=0.0), PGD(epsilon=0.0), UniformNoise(epsilon=0.0),
               GaussianNoise(epsilon=0.0, norm="l2"), PGD(epsilon=0.0, norm="l2")],
    ids=lambda a: f"{type(a).__name__}-{a.norm}",
)  # fmt: skip
def test_epsilon_zero_changes_nothing(attack):
    module, data = linear_case(2)
    found = craft(attack, target_of(module, data), data)
    assert not found.success.any()
    torch.testing.assert_close(found.adversarial, data.batch(slice(None)), rtol=0, atol=1e-7)


def test_progress_ends_at_the_total():
    module, data = linear_case(2, n=7)
    seen = []
    attack = PGD(epsilon=0.001, steps=3, restarts=2)
    craft(attack, target_of(module, data), data, batch_size=3, progress=lambda *p: seen.append(p))
    assert [t for _, t in seen] == [14] * len(seen)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert seen[-1] == (14, 14)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"round_points": True}, "declare the step"),
        ({"goals": torch.zeros(3, dtype=torch.int64)}, "one int64 label"),
        ({"goals": torch.zeros(12)}, "one int64 label"),
        ({"goals": torch.full((12,), 3)}, "between -1 and 2"),
        ({"goals": torch.full((12,), -2)}, "between -1 and 2"),
    ],
)
def test_calls_that_make_no_sense_are_refused(options, words):
    module, data = linear_case(3)
    with pytest.raises(UsageError, match=words):
        craft(FGSM(), target_of(module, data), data, **options)


def test_the_data_are_not_touched():
    module, data = curved_case(eight_bits=True)
    before = data.inputs.clone()
    craft(PGD(epsilon=0.2, steps=3), target_of(module, data), data, round_points=True)
    assert torch.equal(data.inputs, before)
    module, data = curved_case()
    before = data.inputs.clone()
    for attack in (PGD(epsilon=0.2, steps=3), LBFGS(searches=2), UniformNoise(), FGSM()):
        craft(attack, target_of(module, data), data)
    assert torch.equal(data.inputs, before)


def test_white_box_attacks_share_one_threat_model():
    assert WHITE_BOX_EVASION.access is Access.GRADIENTS
    assert UniformNoise.threat.access is Access.LABELS
