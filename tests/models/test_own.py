"""A network of the user's own: what is declared, what is refused, what a worker makes of it."""

from __future__ import annotations

import importlib
import pickle
from functools import partial

import pytest
import torch
from own_nets import forget, write_nets
from torch import nn

from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.models import own as owning
from casemate.models.architecture import initialize, skeleton, title
from casemate.models.own import OwnArchitecture, declare
from casemate.random import stream

DOMAIN = Domain(shape=(1, 8, 8))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the factories, in a process that has declared nothing."""
    monkeypatch.setattr(owning, "_DECLARED", {})
    write_nets(tmp_path)
    forget()
    yield tmp_path
    forget()


def declared(folder, factory="make", domain=DOMAIN, **arguments):
    return declare(
        f"own_net:{factory}", arguments=arguments, domain=domain, classes=10, folder=folder
    )


def test_it_is_an_architecture_that_gets_shape_and_classes_where_it_asks(folder):
    own = declared(folder, width=6)
    assert (title(own), own.arguments) == ("own_net:make", {"width": 6})
    module = initialize(own, DOMAIN, 10, stream(0, "a"))
    assert module(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    assert module.conv.out_channels == 6
    wider = initialize(own, Domain(shape=(3, 12, 12)), 4, stream(0, "a"))
    assert wider(torch.rand(2, 3, 12, 12)).shape == (2, 4)


def test_a_stream_decides_the_weights_and_the_generator_is_left_alone(folder):
    before = torch.random.get_rng_state()
    own = declared(folder)
    first, again, other = (
        initialize(own, DOMAIN, 10, stream(0, name)).state_dict() for name in "aab"
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("factory", ["make", "lazy", "frozen"])
def test_a_skeleton_has_the_shapes_but_no_memory(folder, factory):
    own = declared(folder, factory)
    real = initialize(own, DOMAIN, 10, stream(0, "a")).state_dict()
    bare = skeleton(own, DOMAIN, 10).state_dict()
    assert {k: v.shape for k, v in bare.items()} == {k: v.shape for k, v in real.items()}
    assert all(v.is_meta for v in bare.values())


def source(folder, factory="make", **arguments):
    forget()
    return declared(folder, factory, **arguments).source


def test_the_source_is_that_of_code_and_arguments_and_not_of_the_place(folder, tmp_path_factory):
    known = source(folder)
    assert source(folder) == known
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = write_nets(elsewhere)
    assert source(elsewhere) == known
    assert source(folder, width=5) != known
    path.write_text(path.read_text().replace(".relu(), 2)", ".tanh(), 2)"))
    assert source(elsewhere) != known


def test_what_is_trained_is_part_of_the_source(folder):
    assert source(folder, "frozen", train=False) != source(folder, "frozen", train=True)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("mak", 'has no "mak". Did you mean "make"'),
        ("fails", 'model.factory: "own_net:fails" raised ValueError: no such; mend it'),
        ("NUMBER", "is of type int and no function"),
        ("READY", "is a network that is built already; name the function or class"),
        ("same", "returns the same network, or weights of it, when it is called again"),
        ("sharing", "returns the same network, or weights of it, when it is called again"),
        ("unsteady", "builds another network each time from the same seed"),
        (
            "narrow",
            "returns (2, 7) for 2 inputs of shape 1x8x8; it must return (2, 10) logits",
        ),
        ("wrong_shape", "raised RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("softmax", "returns probabilities, but training needs logits"),
        ("empty", "builds a network without weights to train"),
        ("Pair", "returns a value of type tuple for 2 inputs"),
        ("Detached", "output has no gradient"),
        ("Labels", "returns (2,) of int64 for 2 inputs"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(folder, factory, says):
    before = torch.random.get_rng_state()
    with pytest.raises(UsageError) as found:
        declared(folder, factory)
    assert says in str(found.value)
    assert str(found.value).startswith("model.factory: ")
    assert "\n" not in str(found.value)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not owning._DECLARED


def test_arguments_are_plain_data(folder):
    with pytest.raises(UsageError, match=r"model\.arguments: set has no canonical form"):
        declared(folder, width={1})
    with pytest.raises(UsageError, match="unexpected keyword argument 'widht'"):
        declared(folder, widht=3)


def test_what_is_at_hand_everywhere_is_refused():
    with pytest.raises(UsageError, match='"os" holds no model of yours'):
        declare("os:system", arguments={"command": "true"}, domain=DOMAIN, classes=10)


def test_nothing_is_imported_for_what_nobody_declared(folder):
    for reference in ("os:system", "own_net:make"):
        own = OwnArchitecture(factory=reference, arguments={}, source="0" * 32)
        for use in (lambda o: o.build(DOMAIN, 10), lambda o: skeleton(o, DOMAIN, 10), pickle.dumps):
            with pytest.raises(UsageError, match="nobody declared the factory"):
                use(own)
    known = declared(folder)
    other = OwnArchitecture(factory=known.factory, arguments={"width": 5}, source=known.source)
    assert known.declared
    assert not other.declared


class TestInAWorker:
    """A pickle is what a worker process gets; here the process forgets instead."""

    def sent(self, own, monkeypatch):
        packed = pickle.dumps(own)
        forget()
        monkeypatch.setattr(owning, "_DECLARED", {})
        return pickle.loads(packed)  # noqa: S301 - ours

    def test_the_factory_is_imported_when_it_is_called(self, folder, monkeypatch):
        import sys

        own = declared(folder, width=6)
        expected = initialize(own, DOMAIN, 10, stream(3, "a")).state_dict()
        received = self.sent(own, monkeypatch)
        assert received == own
        assert "own_net" not in sys.modules
        got = initialize(received, DOMAIN, 10, stream(3, "a")).state_dict()
        assert all(torch.equal(got[k], expected[k]) for k in expected)

    def test_other_code_is_refused(self, folder, monkeypatch):
        own = declared(folder)
        path = folder / "own_net.py"
        path.write_text(path.read_text().replace(".relu(), 2)", ".tanh(), 2)"))
        received = self.sent(own, monkeypatch)
        for _ in range(2):
            with pytest.raises(UsageError, match="another network in a worker process than"):
                received.build(DOMAIN, 10)

    def test_a_function_is_found_by_its_name(self, folder, monkeypatch):
        monkeypatch.syspath_prepend(folder)
        make = importlib.import_module("own_net").make
        own = declare(partial(make, width=5), domain=DOMAIN, classes=10)
        assert (own.factory, own.arguments) == ("own_net:make", {"width": 5})
        assert own == declared(folder, width=5)
        own = declare(make, arguments={"width": 5}, domain=DOMAIN, classes=10)
        received = self.sent(own, monkeypatch)
        assert received.build(DOMAIN, 10).conv.out_channels == 5

    def test_a_function_without_a_name_stays_here(self):
        own = declare(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), domain=DOMAIN, classes=10
        )
        with pytest.raises(UsageError, match=r"worker processes cannot be told of .*at the top"):
            pickle.dumps(own)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (nn.Linear(64, 10), "the factory is of type Linear; give the function or class"),
        (3, "the factory is of type int"),
        (partial(nn.Linear, 64), "has arguments without names; give keywords only"),
    ],
)
def test_what_is_no_factory_is_refused(factory, says):
    with pytest.raises(UsageError, match=says):
        declare(factory, domain=DOMAIN, classes=10)
