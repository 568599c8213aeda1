"""The preflight: silent on a healthy model, all problems at once on a sick one, no trace left."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from casemate.data.dataset import Dataset
from casemate.errors import UsageError
from casemate.inference.preflight import CHECKS, preflight
from casemate.models.load import target_from


def ids(problems):
    return [p.id for p in problems]


def target_of(module, digits, **more):
    return target_from(module, domain=digits.domain, classes=digits.classes, **more)


def test_a_healthy_model_has_no_problem(healthy, digits):
    assert preflight(healthy, digits, declared_accuracy=0.98) == []


@pytest.mark.parametrize("outputs", ["probabilities", "labels"])
def test_a_healthy_black_box_has_no_problem(trained, digits, outputs):
    @torch.no_grad()
    def predict(x):
        scores = trained(torch.from_numpy(x))
        return (scores.softmax(1) if outputs == "probabilities" else scores.argmax(1)).numpy()

    target = target_of(predict, digits, outputs=outputs)
    assert preflight(target, digits, declared_accuracy=0.98) == []


def test_a_healthy_model_in_half_precision_has_no_problem(trained, digits):
    assert preflight(target_of(trained.bfloat16(), digits), digits) == []


def test_every_problem_is_listed_at_once_errors_first(trained, digits):
    class Sick(nn.Module):
        """Softmax at the end, dropout always on, trained on 0 to 255, classes shifted by one."""

        def __init__(self):
            super().__init__()
            self.net = trained

        def forward(self, x):
            x = nn.functional.dropout(x, 0.02, training=True)
            return self.net(x / 255).softmax(1).roll(1, 1)

    target = target_of(Sick().train(), digits)
    few = digits.select(torch.where(digits.targets != 3)[0], how="no three")
    problems = preflight(target, few, declared_accuracy=0.98)
    found = ids(problems)
    assert {
        "probabilities",
        "accuracy",
        "random-outputs",
        "training-mode",
        "classes-missing",
    } <= set(found)
    severities = [p.severity for p in problems]
    assert severities == sorted(severities, key=lambda s: s != "error")
    assert len(found) == len(set(found))
    for problem in problems:
        assert problem.message
        assert problem.remedy
        assert "\n" not in problem.message + problem.remedy
        assert not problem.message.endswith(".")


def test_the_model_and_the_random_states_are_as_they_were(trained, digits):
    trained.train()
    trained.norm.eval()
    trained.conv.bias.requires_grad_(False)
    trained.out.bias.grad = kept = torch.ones(10)
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state to guard
    python_state = random.getstate()
    preflight(target_of(trained, digits), digits)
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert [m.training for m in trained] == [True, False, True, True, True, True, True]
    assert trained.training
    assert not trained.conv.bias.requires_grad
    assert trained.conv.weight.requires_grad
    assert trained.out.bias.grad is kept
    assert torch.equal(kept, torch.ones(10))
    assert not any(m._forward_hooks for m in trained.modules())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002 - as above
    assert random.getstate() == python_state


def test_a_model_that_raises_ends_in_a_problem_and_the_data_is_checked_anyway(digits):
    class Raises(nn.Module):
        def forward(self, x):
            raise ValueError("expected\nfloat64")

    few = digits.select(torch.where(digits.targets < 9)[0], how="no nine")
    problems = preflight(target_of(Raises(), digits), few)
    assert set(ids(problems)) == {"model-raises", "training-mode", "classes-missing"}
    assert problems[0].message == (
        "the model raised ValueError on inputs of shape (64, 1, 8, 8) on cpu: expected float64"
    )


def test_a_model_for_single_samples_is_told_apart(trained, digits):
    class One(nn.Module):
        def forward(self, x):
            return trained(x.view(1, 1, 8, 8))

    (problem,) = preflight(target_of(One().eval(), digits), digits)
    assert problem.id == "model-raises"
    assert problem.message.endswith("(a single sample goes through)")
    assert problem.remedy == "make the model take batches of any size"


def test_a_wrong_number_of_outputs_is_a_problem(trained, digits):
    trained.out = nn.Linear(256, 11).eval()
    (problem,) = preflight(target_of(trained, digits), digits)
    assert problem.id == "outputs-shape"
    assert "(64, 11)" in problem.message
    assert "10 classes" in problem.message


def test_a_model_that_raises_only_in_a_later_check_is_reported_there(trained, digits):
    class Picky(nn.Module):
        def forward(self, x):
            if len(x) == 1:
                raise RuntimeError("one is too few")
            return trained(x)

    (problem,) = preflight(target_of(Picky().eval(), digits), digits)
    assert problem.id == "model-raises"
    assert "(1, 1, 8, 8)" in problem.message


def test_few_samples_and_one_class_are_no_defect_of_the_check(healthy, digits):
    one = digits.select(torch.tensor([0]), how="one")
    assert set(ids(preflight(healthy, one))) == {"classes-missing"}


def test_the_draw_depends_on_the_seed_alone(trained, digits):
    trained.out.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    target = target_of(trained, digits)
    first = preflight(target, digits, samples=50, seed=1)
    assert first == preflight(target, digits, samples=50, seed=1)
    assert first != preflight(target, digits, samples=50, seed=2)


@pytest.mark.parametrize("accuracy", [-0.1, 97.0, float("nan")])
def test_a_declared_accuracy_that_is_no_share_is_refused(healthy, digits, accuracy):
    with pytest.raises(UsageError, match="give a share in"):
        preflight(healthy, digits, declared_accuracy=accuracy)


def test_nothing_to_check_is_refused(healthy, digits):
    with pytest.raises(UsageError, match="nothing to check"):
        preflight(healthy, digits, samples=0)
    with pytest.raises(UsageError, match="nothing to check"):
        preflight(healthy, digits.select(torch.tensor([], dtype=torch.int64), how="none"))


def test_every_check_is_run(healthy, digits, monkeypatch):
    from casemate.inference import preflight as module

    called = []

    def noting(check):
        def run(probe):
            called.append(check)
            return check(probe)

        return run

    monkeypatch.setattr(module, "CHECKS", tuple(map(noting, CHECKS)))
    preflight(healthy, digits)
    assert called == list(CHECKS)


def test_nan_pixels_are_a_problem_of_the_data(healthy, digits):
    inputs = digits.batch(slice(None))
    inputs[:40, 0, 0, 0] = float("nan")
    data = Dataset.from_arrays(
        name="broken",
        inputs=inputs.numpy(),
        labels=digits.targets.numpy(),
        classes=digits.classes,
        domain=digits.domain,
    )
    assert "input-values" in ids(preflight(healthy, data, samples=len(data)))
