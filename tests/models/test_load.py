"""The front door: which kind a section describes, and what is wrong with one that is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.load import load_target, parse_section, target_from

DOMAIN = Domain(shape=(4,))
CLASSES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "give exactly one of factory, onnx, sklearn, function; got nothing"),
        ({"factory": "m:f", "onnx": "m.onnx"}, "got factory, onnx"),
        ({"factroy": "m:f"}, 'Did you mean "factory"'),
        (
            {"factory": "m:f", "weight": "w"},
            '"factory" takes no key "weight". Did you mean "weights"',
        ),
        ({"onnx": "m.onnx", "weights": "w"}, '"onnx" takes no key "weights"'),
        ({"factory": 3}, "model.factory is 3: "),
        ({"factory": "m:f", "outputs": "logit"}, "model.outputs is 'logit': .*'logits'"),
        ({"factory": "m:f", "accuracy": 97}, "model.accuracy is 97: .*less than or equal to 1"),
        ({"factory": "m:f", "preprocessing": {"mena": 0.5}}, 'no "mena". Did you mean "mean"'),
        (
            {"factory": "m:f", "preprocessing": {"std": 0}},
            "^model.preprocessing.std must be positive",
        ),
        ({"factory": "m:f", "preprocessing": {"size": [1, 2, 3]}}, "model.preprocessing.size"),
        ({"onnx": "m.onnx", "layout": "CHW"}, "model.layout is 'CHW'"),
    ],
)
def test_a_section_that_is_not_well_formed_is_refused_in_one_sentence(spec, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_section(spec)
    assert str(caught.value).startswith("model")
    assert "\n" not in str(caught.value)


def test_a_section_may_be_written_briefly():
    short = {"mean": 0.5, "std": [0.25], "size": 8}
    section = parse_section({"factory": "m:f", "preprocessing": short})
    assert section.preprocessing.mean == (0.5,)
    assert section.preprocessing.std == (0.25,)
    assert section.preprocessing.size == (8, 8)
    assert parse_section({"sklearn": "m:f"}).preprocessing is None
    assert parse_section({"function": "m:f", "accuracy": 0.9}).accuracy == 0.9


def test_parsing_neither_imports_nor_reads(tmp_path):
    parse_section({"factory": "module_that_is_not_there:f", "weights": "nowhere.pt"})
    assert "module_that_is_not_there" not in sys.modules


class TestFunctions:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "fun_models.py").write_text(
            "import numpy as np\n"
            "SHIFT = 0.5\n"
            "def predict(x):\n"
            "    z = np.exp(x[:, :3] + SHIFT)\n"
            "    return z / z.sum(1, keepdims=True)\n"
            "class Model:\n"
            "    def __call__(self, x):\n"
            "        return x.argmax(1) % 3\n"
            "MODEL = Model()\n"
            "NUMBER = 3\n"
        )
        yield tmp_path
        sys.modules.pop("fun_models", None)

    def load(self, folder, **spec):
        return load_target(spec, domain=DOMAIN, classes=CLASSES, base_dir=folder)

    def test_a_function_of_arrays(self, folder):
        target = self.load(folder, function="fun_models:predict")
        x = torch.rand(5, 4)
        np.testing.assert_allclose(target.scores(x), x[:, :3].softmax(1), rtol=1e-5)
        assert (target.outputs, target.differentiable) == ("probabilities", False)

    def test_a_callable_object_that_gives_labels(self, folder):
        target = self.load(folder, function="fun_models:MODEL", outputs="labels")
        assert target.labels(torch.eye(4)).tolist() == [0, 1, 2, 0]

    def test_the_digest_follows_source_and_settings(self, folder):
        base = self.load(folder, function="fun_models:predict")
        assert self.load(folder, function="fun_models:predict").digest == base.digest
        scaled = self.load(folder, function="fun_models:predict", preprocessing={"std": 2})
        assert scaled.digest != base.digest
        sys.modules["fun_models"].SHIFT = 0.25  # a global that it reads, such as a loaded model
        assert self.load(folder, function="fun_models:predict").digest != base.digest

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("NUMBER", "is of type int and no function"),
            ("Model", "is of type type and no function"),
            ("predic", 'Did you mean "predict"'),
        ],
    )
    def test_what_is_no_function_is_refused(self, folder, name, says):
        with pytest.raises(UsageError, match=says):
            self.load(folder, function=f"fun_models:{name}")

    def test_from_python(self):
        offset = np.arange(3.0)
        target = target_from(
            lambda x: x[:, :3] + offset, domain=DOMAIN, classes=CLASSES, outputs="logits"
        )
        assert target.labels(torch.zeros(2, 4)).tolist() == [2, 2]
        other = np.zeros(3)
        again = target_from(
            lambda x: x[:, :3] + other, domain=DOMAIN, classes=CLASSES, outputs="logits"
        )
        assert again.digest != target.digest

    def test_what_is_no_model_is_refused(self):
        with pytest.raises(UsageError, match=r"the model is int; give a torch.nn.Module"):
            target_from(3, domain=DOMAIN, classes=CLASSES)
