"""Targets: preprocessing, number types, shapes of outputs, defenses in front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.target import FunctionTarget, Preprocessing, TorchTarget

FEATURES = Domain(shape=(4,))
IMAGE = Domain(shape=(3, 4, 4))
ABC = ("a", "b", "c")


def torch_target(module, *, domain=FEATURES, classes=ABC, **more):
    return TorchTarget(module, domain=domain, classes=classes, digest="d", **more)


def function_target(function, *, domain=FEATURES, classes=ABC, **more):
    return FunctionTarget(function, domain=domain, classes=classes, digest="d", **more)


def same(kind):
    """A model of that kind that returns its inputs as scores."""
    return nn.Flatten() if kind is torch_target else lambda x: x


@dataclass(frozen=True, kw_only=True)
class Affine:
    """A defense that does not commute: x -> scale * x + shift."""

    scale: float
    shift: float

    def __call__(self, x):
        return self.scale * x + self.shift


class TestPreprocessing:
    def test_mean_and_std_act_by_channel(self):
        x = torch.rand(2, 3, 4, 4)
        out = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))(x)
        for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)]):
            np.testing.assert_allclose(out[:, c], (x[:, c] - m) / s, rtol=1e-6)

    def test_one_value_stands_for_all_channels_and_for_features(self):
        x = torch.rand(2, 4)
        np.testing.assert_allclose(Preprocessing(mean=(0.5,))(x), x - 0.5)
        np.testing.assert_allclose(Preprocessing(std=(0.5,))(x), x * 2)

    def test_resizing_comes_first_and_keeps_a_constant_image(self):
        x = torch.full((1, 3, 4, 4), 0.7)
        out = Preprocessing(size=(8, 6), mean=(0.2,))(x)
        assert out.shape == (1, 3, 8, 6)
        np.testing.assert_allclose(out, 0.5, atol=1e-6)

    def test_shape_is_what_the_call_returns(self):
        for p in (Preprocessing(), Preprocessing(size=(2, 5))):
            assert p(torch.rand(1, *IMAGE.shape)).shape[1:] == p.shape(IMAGE)

    def test_constants_made_in_inference_mode_serve_gradients_later(self):
        p = Preprocessing(std=(0.123,))
        with torch.inference_mode():
            p(torch.rand(1, 4))
        x = torch.rand(1, 4, requires_grad=True)
        p(x).sum().backward()
        np.testing.assert_allclose(x.grad, 1 / 0.123, rtol=1e-6)

    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            ({"std": (0.0,)}, "std must be positive"),
            ({"std": (float("nan"),)}, "std must be positive"),
            ({"mean": (float("inf"),)}, "mean must be finite"),
            ({"mean": (0.1, 0.2), "std": (1.0, 1.0, 1.0)}, "2 values but std has 3"),
            ({"size": (0, 4)}, "size must be positive"),
        ],
    )
    def test_what_cannot_be_is_refused(self, bad, says):
        with pytest.raises(UsageError, match=says):
            Preprocessing(**bad)

    @pytest.mark.parametrize("kind", [torch_target, function_target])
    @pytest.mark.parametrize(
        ("preprocessing", "domain", "says"),
        [
            (Preprocessing(mean=(0.1, 0.2)), IMAGE, "2 values but inputs have 3 channels"),
            (Preprocessing(size=(2, 2)), FEATURES, "needs images"),
        ],
    )
    def test_a_target_refuses_what_does_not_fit_its_domain(self, kind, preprocessing, domain, says):
        with pytest.raises(UsageError, match=says):
            kind(nn.Identity(), domain=domain, preprocessing=preprocessing)


class TestNumberTypes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_a_module_gets_its_own_type_and_scores_are_float32(self, dtype):
        seen = []

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.counter = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)
                self.linear = nn.Linear(4, 3, dtype=dtype)

            def forward(self, x):
                seen.append(x.dtype)
                return self.linear(x)

        net = Net()
        target = torch_target(net, preprocessing=Preprocessing(mean=(0.5,)))
        x = torch.rand(5, 4, requires_grad=True)
        scores = target.scores(x)
        assert seen == [dtype]
        assert scores.dtype == torch.float32
        with torch.no_grad():
            expected = net.linear((x - 0.5).to(dtype)).float()
        assert torch.equal(scores, expected)
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), x)
        assert gradient.dtype == torch.float32
        row = net.linear.weight[0].float().detach()
        assert torch.equal(gradient, row.expand(5, 4))

    def test_without_parameters_a_module_gets_float32(self):
        target = torch_target(nn.Flatten(), classes=("a", "b", "c", "d"))
        x = torch.rand(2, 4)
        assert torch.equal(target.scores(x), x)

    def test_a_function_gets_float32(self):
        seen = []

        def predict(x):
            seen.append((type(x), x.dtype, x.shape))
            return np.zeros((len(x), 3), dtype=np.float64)

        scores = function_target(predict).scores(torch.rand(2, 4))
        assert seen == [(np.ndarray, np.float32, (2, 4))]
        assert scores.dtype == torch.float32


class TestOutputs:
    def test_one_logit_becomes_two_columns_with_the_same_softmax(self):
        z = torch.tensor([-2.0, 0.0, 3.0])
        x = z[:, None].expand(3, 4)
        for out in (lambda x: x[:, 0], lambda x: x[:, :1]):

            class Net(nn.Module):
                def forward(self, x, out=out):
                    return out(x)

            for target in (
                torch_target(Net(), classes=("no", "yes")),
                function_target(lambda x, out=out: out(x), classes=("no", "yes"), outputs="logits"),
            ):
                scores = target.scores(x)
                np.testing.assert_allclose(scores[:, 1] - scores[:, 0], z)
                np.testing.assert_allclose(
                    target.probabilities(scores)[:, 1], torch.sigmoid(z), rtol=1e-6
                )
                assert target.labels(x).tolist() == [0, 0, 1]

    def test_one_probability_becomes_two(self):
        target = function_target(lambda x: x[:, 0], classes=("no", "yes"), outputs="probabilities")
        scores = target.scores(torch.tensor([[0.25, 0, 0, 0]]))
        assert scores.tolist() == [[0.75, 0.25]]
        assert torch.equal(target.probabilities(scores), scores)

    def test_the_gradient_passes_through_the_columns(self):
        target = torch_target(nn.Linear(4, 1), classes=("no", "yes"))
        x = torch.rand(3, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(target.scores(x)[:, 1].sum(), x)
        assert torch.equal(gradient, target.module.weight.expand(3, 4))

    @pytest.mark.parametrize(
        "out",
        [
            np.array([2, 0]),
            np.array([2.0, 0.0]),
            np.array([[2], [0]]),
            [2, 0],
            torch.tensor([2, 0]),
        ],
        ids=["integers", "whole floats", "column", "list", "tensor"],
    )
    def test_labels_become_one_hot(self, out):
        target = function_target(lambda x: out, outputs="labels")
        assert target.scores(torch.rand(2, 4)).tolist() == [[0, 0, 1], [1, 0, 0]]

    def test_labels_hide_the_scores_of_a_model_that_gives_them(self):
        target = function_target(
            lambda x: np.array([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3]]), outputs="labels"
        )
        assert target.scores(torch.rand(2, 4)).tolist() == [[0, 1, 0], [1, 0, 0]]
        assert not torch_target(nn.Linear(4, 3), outputs="labels").differentiable

    @pytest.mark.parametrize(
        ("outputs", "out", "says"),
        [
            ("labels", [0, 3], "labels from 0 to 3, but there are 3"),
            ("labels", [-1, 0], "labels from -1 to 0"),
            ("labels", [0.5, 1.0], "fractions"),
            ("labels", [float("nan"), 1.0], "fractions"),
            ("labels", np.zeros((2, 2)), r"\(2, 2\) for 2 inputs"),
            ("logits", np.zeros((2, 4)), r"\(2, 4\) for 2 inputs, but 3 classes need \(2, 3\)"),
            ("logits", np.zeros(2), r"\(2,\) for 2 inputs"),
            ("logits", np.zeros((3, 2)), r"\(3, 2\) for 2 inputs"),
            ("logits", np.array([["a", "b", "c"]] * 2), "not numbers"),
            ("logits", None, "not numbers"),
        ],
    )
    def test_what_is_no_answer_is_refused(self, outputs, out, says):
        target = function_target(lambda x: out, outputs=outputs)
        with pytest.raises(UsageError, match=says):
            target.scores(torch.rand(2, 4))

    def test_a_module_must_return_a_tensor(self):
        class Net(nn.Module):
            def forward(self, x):
                return {"logits": x}

        with pytest.raises(UsageError, match="returned dict and not a tensor"):
            torch_target(Net()).scores(torch.rand(2, 4))

    @given(st.integers(0, 3), st.integers(2, 5))
    def test_any_number_of_samples_and_classes(self, n, k):
        classes = tuple("abcde"[:k])
        labels = np.arange(n) % k
        target = function_target(lambda x: labels, classes=classes, outputs="labels")
        scores = target.scores(torch.zeros(n, 4))
        assert scores.shape == (n, k)
        assert scores.argmax(1).tolist() == labels.tolist()


class TestMemory:
    def test_a_module_may_overwrite_its_input(self):
        class Net(nn.Module):
            def forward(self, x):
                return x.mul_(2)[:, :3]

        x = torch.rand(2, 4)
        before = x.clone()
        points = x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(torch_target(Net()).scores(points).sum(), points)
        assert torch.equal(x, before)
        assert gradient[0].tolist() == [2, 2, 2, 0]

    def test_a_function_may_overwrite_its_input(self):
        def predict(x):
            x *= 0
            return x[:, :3]

        x = torch.rand(2, 4)
        before = x.clone()
        function_target(predict).scores(x)
        assert torch.equal(x, before)

    def test_a_window_that_a_defense_cuts_is_not_the_callers_memory_either(self):
        target = torch_target(nn.ReLU(inplace=True), front=(lambda x: x[:, 1:],))
        x = torch.full((2, 4), -1.0)
        target.scores(x)
        assert torch.equal(x, torch.full((2, 4), -1.0))

    def test_a_function_may_return_the_same_buffer_again(self):
        buffer = np.zeros((2, 3), dtype=np.float32)

        def predict(x):
            buffer[:] = x[:, :3]
            return buffer

        target = function_target(predict)
        first = target.scores(torch.zeros(2, 4))
        target.scores(torch.ones(2, 4))
        assert float(first.abs().sum()) == 0


class TestDefenses:
    @pytest.mark.parametrize("kind", [torch_target, function_target])
    def test_the_outermost_meets_the_input_first(self, kind):
        inner, outer = Affine(scale=2, shift=0), Affine(scale=1, shift=1)
        bare = kind(same(kind), classes=("a", "b", "c", "d"))
        target = bare.behind(inner).behind(outer)
        x = torch.rand(2, 4)
        np.testing.assert_allclose(target.scores(x), 2 * (x + 1))
        assert target.front == (outer, inner)

    @pytest.mark.parametrize("kind", [torch_target, function_target])
    def test_defenses_come_before_preprocessing(self, kind):
        target = kind(
            same(kind), classes=("a", "b", "c", "d"), preprocessing=Preprocessing(mean=(0.5,))
        ).behind(Affine(scale=2, shift=0))
        np.testing.assert_allclose(target.scores(torch.ones(1, 4)), torch.full((1, 4), 1.5))

    def test_the_digest_tells_the_defense_and_the_order(self):
        bare = torch_target(nn.Linear(4, 3))
        one, two = Affine(scale=2, shift=0), Affine(scale=1, shift=1)
        targets = [bare, bare.behind(one), bare.behind(two), bare.behind(one).behind(two)]
        targets.append(bare.behind(two).behind(one))
        assert len({t.digest for t in targets}) == 5
        assert bare.behind(one).digest == bare.behind(Affine(scale=2, shift=0)).digest

    def test_notes_and_outputs_pass_on(self):
        target = function_target(lambda x: x, outputs="logits", notes=("seen",))
        behind = target.behind(Affine(scale=1, shift=0))
        assert (behind.notes, behind.outputs) == (("seen",), "logits")


def test_modules_are_what_must_be_left_alone():
    net = nn.Linear(4, 3)
    assert torch_target(net).modules == (net,)
    assert function_target(net).modules == ()
