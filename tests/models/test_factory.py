"""A torch module from a factory of the user's: built, weighted, digested."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models.load import load_target, target_from
from casemate.target import Preprocessing, TorchTarget

DOMAIN = Domain(shape=(1, 4, 4))
CLASSES = ("a", "b", "c")

SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=8, *, fail=False):
        super().__init__()
        if fail:
            raise ValueError("asked to fail\\nat length")
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, hidden), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        return self.head(self.body(x))

def make(hidden=8):
    from fac_late import check  # imported only now
    check()
    return Net(hidden)

READY = Net()
NUMBER = 3

def wrong():
    return "no module"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fac_nets.py").write_text(SOURCE)
    (tmp_path / "fac_late.py").write_text("def check():\n    pass\n")
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("fac_")]:
        del sys.modules[name]


def load(folder, **spec):
    return load_target(spec, domain=DOMAIN, classes=CLASSES, base_dir=folder)


def saved(folder, name="w.safetensors", seed=0, **arguments):
    target = load(folder, factory="fac_nets:Net", arguments=arguments)
    torch.manual_seed(seed)
    weights = {k: torch.randn_like(v) for k, v in target.module.state_dict().items()}
    path = folder / name
    save_file(weights, path) if name.endswith(".safetensors") else torch.save(weights, path)
    return weights


def test_a_factory_with_weights_gives_that_network(folder):
    weights = saved(folder)
    target = load(
        folder,
        factory="fac_nets:make",
        weights="w.safetensors",
        preprocessing={"mean": 0.5, "std": [0.25]},
    )
    assert isinstance(target, TorchTarget)
    assert target.differentiable
    assert target.notes == ()
    assert not any(m.training for m in target.module.modules())
    x = torch.rand(5, 1, 4, 4)
    z = (x.flatten(1) - 0.5) / 0.25
    hidden = (z @ weights["body.1.weight"].T + weights["body.1.bias"]).relu()
    expected = hidden @ weights["head.weight"].T + weights["head.bias"]
    assert torch.allclose(target.scores(x), expected, atol=1e-4)


def test_arguments_reach_the_factory(folder):
    target = load(folder, factory="fac_nets:Net", arguments={"hidden": 5})
    assert target.module.head.in_features == 5


def test_without_weights_that_is_said(folder):
    assert "no weights are given" in load(folder, factory="fac_nets:Net").notes[0]


def test_a_ready_module_is_taken_as_it_is(folder):
    assert load(folder, factory="fac_nets:READY").module.head.out_features == 3


def test_the_digest_is_that_of_content(folder):
    saved(folder, "w.safetensors")
    saved(folder, "same.pt")
    saved(folder, "other.pt", seed=1)
    base = {"factory": "fac_nets:make", "weights": "w.safetensors"}
    digest = load(folder, **base).digest
    assert load(folder, **base).digest == digest
    assert (
        load(folder, **{**base, "weights": "same.pt"}).digest == digest
    )  # the format is no content
    assert load(folder, **{**base, "accuracy": 0.9}).digest == digest  # nor what is declared
    others = [
        load(folder, **{**base, "weights": "other.pt"}),
        load(folder, **base, preprocessing={"mean": 0.5}),
        load(folder, **base, outputs="probabilities"),
        load_target(base, domain=Domain(shape=(1, 4, 4), high=2), classes=CLASSES, base_dir=folder),
        load_target(base, domain=DOMAIN, classes=("a", "b", "d"), base_dir=folder),
    ]
    assert len({digest, *(t.digest for t in others)}) == 6


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"factory": "fac_nets:mak"}, 'Did you mean "make"'),
        ({"factory": "fac_nests:make"}, 'Did you mean "fac_nets"'),
        ({"factory": "fac_nets:wrong"}, "returned a value of type str and no torch.nn.Module"),
        ({"factory": "fac_nets:NUMBER"}, "is of type int and no function"),
        ({"factory": "fac_nets:READY", "arguments": {"hidden": 2}}, "without arguments"),
        (
            {"factory": "fac_nets:Net", "arguments": {"fail": True}},
            "raised ValueError: asked to fail;",
        ),
        ({"factory": "fac_nets:Net", "arguments": {"hiden": 2}}, "unexpected keyword argument"),
        ({"factory": "fac_nets:Net", "weights": "w.pt"}, r"w\.pt is no file"),
    ],
)
def test_each_failure_is_one_sentence_with_the_key(folder, spec, says):
    with pytest.raises(UsageError, match=says) as caught:
        load(folder, **spec)
    assert str(caught.value).startswith("model.")
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_name_the_factory(folder):
    saved(folder, hidden=5)
    with pytest.raises(
        UsageError, match=r'does not fit the model that "fac_nets:Net" builds: .*body'
    ):
        load(folder, factory="fac_nets:Net", weights="w.safetensors")


def test_a_device_that_is_not_there_is_refused(folder):
    with pytest.raises(UsageError, match='cannot be moved to the device "cuda:99"'):
        load_target(
            {"factory": "fac_nets:Net"},
            domain=DOMAIN,
            classes=CLASSES,
            base_dir=folder,
            device="cuda:99",
        )


class TestFromPython:
    def test_a_module_stays_as_it_is(self):
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).train()
        target = target_from(module, domain=DOMAIN, classes=CLASSES)
        assert target.module is module
        assert module.training
        assert (target.outputs, target.device) == ("logits", torch.device("cpu"))
        x = torch.rand(2, 1, 4, 4)
        assert torch.equal(target.scores(x), module(x))

    def test_the_digest_follows_the_weights(self):
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        before = target_from(module, domain=DOMAIN, classes=CLASSES).digest
        module[1].bias.data += 1
        assert target_from(module, domain=DOMAIN, classes=CLASSES).digest != before

    def test_preprocessing_and_outputs_are_taken(self):
        target = target_from(
            nn.Flatten(),
            domain=Domain(shape=(2,)),
            classes=("a", "b"),
            preprocessing=Preprocessing(mean=(0.5,)),
            outputs="probabilities",
        )
        assert target.scores(torch.ones(1, 2)).tolist() == [[0.5, 0.5]]
        assert target.outputs == "probabilities"

    def test_lazy_layers_without_weights_are_refused(self):
        with pytest.raises(UsageError, match="lazy layers without weights"):
            target_from(nn.LazyLinear(3), domain=DOMAIN, classes=CLASSES)
