"""Models, shapes and units on which engines go wrong."""

from __future__ import annotations

import pytest
import torch
from steppers import curved_case
from systems import (
    Linear,
    Wrapped,
    data_of,
    linear_case,
    scores_of,
    target_of,
    weights,
)
from torch import nn

from casemate.errors import UsageError
from casemate.inference.attacks.bim import BIM
from casemate.inference.attacks.bounded import WHITE_BOX_EVASION
from casemate.inference.attacks.fgsm import FGSM
from casemate.inference.attacks.lbfgs import LBFGS
from casemate.inference.attacks.noise import GaussianNoise, UniformNoise
from casemate.inference.attacks.pgd import PGD
from casemate.inference.engine import craft
from casemate.target import Preprocessing
from casemate.threats import Access


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
