"""The content hash of a model changes with what decides its outputs and with nothing else."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from casemate.models.fingerprint import fingerprint

TABLE = np.arange(3.0)


class Scaled(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self._scale = scale  # what no state dict holds

    def forward(self, x):
        return self.linear(x) * self._scale


def net(**arguments):
    torch.manual_seed(0)
    return nn.Sequential(Scaled(**arguments), nn.BatchNorm1d(3), nn.Dropout(0.5))


def test_a_module_is_named_by_content():
    assert fingerprint(net()) == fingerprint(net()) == fingerprint(copy.deepcopy(net()))


CHANGES = {
    "a weight": lambda m: m[0].linear.weight.data[0, 0].add_(1e-6),
    "the sign of zero": lambda m: m[1].bias.data.fill_(-0.0),
    "a buffer": lambda m: m[1].running_mean.add_(1),
    "a private attribute": lambda m: setattr(m[0], "_scale", 2.0),
    "a child's setting": lambda m: setattr(m[2], "p", 0.1),
    "a hook": lambda m: m[0].register_forward_hook(lambda *a: a[2] * 2),
    "a child": lambda m: m.append(nn.ReLU()),
    "the type of number": lambda m: m.half(),
    "a replaced forward": lambda m: setattr(m[0], "forward", lambda x: x),
    "a missing bias": lambda m: setattr(m[0].linear, "bias", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_decides_the_outputs_changes_it(change):
    module = net()
    change(module)
    assert fingerprint(module) != fingerprint(net())


INDIFFERENT = {
    "the mode": lambda m: m.eval(),
    "requires_grad": lambda m: m.requires_grad_(False),
    "a gradient": lambda m: setattr(m[0].linear.weight, "grad", torch.ones(3, 2)),
    "the memory layout": lambda m: setattr(
        m[0].linear.weight, "data", m[0].linear.weight.data.t().contiguous().t()
    ),
}


@pytest.mark.parametrize("change", INDIFFERENT.values(), ids=INDIFFERENT)
def test_what_does_not_decide_them_leaves_it(change):
    module = net()
    change(module)
    assert fingerprint(module) == fingerprint(net())


def test_shapes_and_neighbors_are_not_mixed_up():
    values = [
        torch.zeros(2, 3),
        torch.zeros(3, 2),
        torch.zeros(6),
        np.zeros((2, 3)),
        [1, [2]],
        [[1], 2],
        [1, 2],
        (1, 2),
        ["1", "2"],
        ["12"],
        {"a": 1},
        {"a": None, "b": 1},
        1,
        1.0,
        True,
        None,
    ]
    assert len({fingerprint(v) for v in values}) == len(values)


def test_dictionaries_and_sets_have_no_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a", "b", "c"}) == fingerprint({"c", "b", "a"})
    assert fingerprint({"a", "b"}) != fingerprint({"a", "c"})


def test_cycles_end():
    one = []
    one.append(one)
    two = [[]]
    assert fingerprint(one) == fingerprint(one) != fingerprint(two)


def test_a_function_is_named_by_what_it_reads(monkeypatch):
    def made(offset, values):
        def predict(x, *, slope=1.0):
            return slope * x + offset + values + TABLE

        return predict

    base = fingerprint(made(1, np.zeros(3)))
    assert base == fingerprint(made(1, np.zeros(3)))
    assert base != fingerprint(made(2, np.zeros(3)))
    assert base != fingerprint(made(1, np.ones(3)))
    changed = made(1, np.zeros(3))
    changed.__kwdefaults__ = {"slope": 2.0}
    assert base != fingerprint(changed)
    monkeypatch.setattr(sys.modules[__name__], "TABLE", np.ones(3))
    assert base != fingerprint(made(1, np.zeros(3)))


def test_two_lambdas_on_one_line_differ():
    one, two = lambda x: x.min(), lambda x: x.max()
    assert fingerprint(one) != fingerprint(two)


def test_partials_methods_and_objects():
    class Model:
        def __init__(self, shift):
            self.shift = shift
            self.lock = threading.Lock()  # cannot be copied, and decides nothing

        def predict(self, x):
            return x + self.shift

        __call__ = predict

    for make in (Model, lambda s: Model(s).predict, lambda s: functools.partial(max, s)):
        assert fingerprint(make(1)) == fingerprint(make(1))
        assert fingerprint(make(1)) != fingerprint(make(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda c: LogisticRegression(C=c),
        lambda c: RandomForestClassifier(n_estimators=3, max_leaf_nodes=int(2 + c), random_state=0),
    ],
    ids=["logistic regression", "forest of compiled trees"],
)
def test_an_estimator_is_named_by_what_it_learned(make):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    base = fingerprint(make(1.0).fit(x, y))
    assert base == fingerprint(make(1.0).fit(x, y))
    assert base != fingerprint(make(5.0).fit(x, y))
    assert base != fingerprint(make(1.0).fit(x + rng.normal(size=x.shape), y))


def test_another_process_gets_the_same_and_an_edited_source_another(tmp_path, monkeypatch):
    source = tmp_path / "fp_model.py"
    source.write_text(
        "from torch import nn\n"
        "WORDS = {'a', 'b', 'c'}\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(2, 2)\n"
        "        self.weight.data.fill_(1)\n"
        "        self.bias.data.fill_(0)\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) * 1\n"
        "def predict(x):\n"
        "    return len(WORDS) * x\n"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import fp_model\n"
        "from casemate.models.fingerprint import fingerprint\n"
        "print(fingerprint(fp_model.Net()), fingerprint(fp_model.predict))\n"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path)]
    # sets come in another order in another process
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    monkeypatch.syspath_prepend(str(tmp_path))
    import fp_model

    assert [fingerprint(fp_model.Net()), fingerprint(fp_model.predict)] == there
    source.write_text(source.read_text().replace("* 1", "* 2"))
    edited = [fingerprint(fp_model.Net()), fingerprint(fp_model.predict)]
    assert all(a != b for a, b in zip(there, edited, strict=True))


def digest_elsewhere(folder, module):
    """Return the fingerprint of a folder's `module.Net`, taken in a process of its own."""
    code = (
        f"from {module} import Net\n"
        "from casemate.models.fingerprint import fingerprint\nprint(fingerprint(Net()))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder
    )
    return found.stdout


def test_what_a_method_calls_in_another_module_decides(tmp_path, monkeypatch):
    (tmp_path / "helping.py").write_text("def twist(x):\n    return x\n", encoding="utf-8")
    (tmp_path / "twisted.py").write_text(
        "from torch import nn\nfrom helping import twist\n\n\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return twist(x)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    digest = functools.partial(digest_elsewhere, tmp_path, "twisted")
    before = digest()
    assert digest() == before
    (tmp_path / "helping.py").write_text("def twist(x):\n    return 3 * x\n", encoding="utf-8")
    assert digest() != before


def test_what_helpers_of_a_helper_and_submodules_do_decides(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    files = {
        "package/__init__.py": "from package import deep\n",
        "package/deep.py": "import farther\n\n\ndef f(x):\n    return farther.g(x)\n",
        "farther.py": "from farthest import SCALE\n\n\ndef g(x):\n    return SCALE.get() * x\n",
        "farthest.py": "class _S:\n    def get(self):\n        return 1\n\n\nSCALE = _S()\n",
        "outer.py": "from torch import nn\nimport package\n\n\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n        return package.deep.f(x)\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    digest = functools.partial(digest_elsewhere, tmp_path, "outer")
    before = digest()
    assert digest() == before
    for name in ("package/deep.py", "farther.py"):
        text = files[name]
        (tmp_path / name).write_text(text + "\nEDITED = 1\n", encoding="utf-8")
        assert digest() != before, name
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert digest() == before, name


def test_weights_count_however_deep_they_lie():
    def nested(value):
        module = nn.Linear(1, 1)
        module.weight.data.fill_(value)
        module.bias.data.zero_()
        for _ in range(150):
            module = nn.Sequential(module)
        return module

    assert fingerprint(nested(1.0)) == fingerprint(nested(1.0))
    assert fingerprint(nested(1.0)) != fingerprint(nested(2.0))
