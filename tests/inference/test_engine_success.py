"""Success is judged on what is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from steppers import Recorder, curved_case, verified_by_hand
from systems import (
    Wrapped,
    data_of,
    linear_case,
    scores_of,
    target_of,
)
from torch import nn

from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft
from casemate.inference.norms import within


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
